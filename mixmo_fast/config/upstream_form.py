"""The form of the authors' configuration files (mixmo-pytorch), as strict as our own schema.

The models say what a file of theirs may hold, key by key; names that stand for nothing this program does are not among
them. Rules between keys, and what a user is told, are in `upstream_check.py`. Values only; there are no arrays here.
"""

import re
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from mixmo_fast.config.schema import OtherMask

CLASSES = {"cifar10": 10, "cifar100": 100, "tinyimagenet": 200, "tinyimagenet200": 200}
"""K of the data sets that mixmo-pytorch knows, in its spellings."""

MASKS = ("cutmix", "mixup", *get_args(OtherMask), "patchuphard2d")
"""Names of masks, for features and for images."""

METRICS = ("accuracy", "accuracytop5", "nll", "ece", "auc", "brier", "tace", "diversity")
"""Names of scores."""


class _Form(BaseModel):
    """A section of theirs. A key's docstring says what it allows, as a message completes `allowed: `."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class MixMethod(_Form):
    """A mask, drawn with a probability, and else another one; a bare name is that mask, always."""

    method_name: Literal[MASKS]
    prob: float | None = Field(default=None, ge=0, le=1)
    """a number from 0 to 1, or null"""
    replacement_method_name: Literal[MASKS] | None = None

    @property
    def sole(self) -> str | None:
        """The mask's name where it is always the same one, else None."""
        is_certain = self.replacement_method_name is None and self.prob in (None, 1)
        return self.method_name if is_certain or self.replacement_method_name == self.method_name else None

    def in_words(self) -> str:
        """`cutmix with prob 0.5, else mixup`."""
        if self.sole:
            return self.sole
        prob = "no prob" if self.prob is None else f"prob {self.prob:g}"
        return f"{self.method_name} with {prob}, else {self.replacement_method_name or 'nothing'}"


def _as_mapping(value: object) -> object:
    """A bare method's name as the mapping that means the same: that method, always."""
    if value in MASKS:
        return {"method_name": value}
    if not isinstance(value, dict):
        raise PydanticCustomError("method", "neither a known name nor a mapping")
    return value


_METHOD = Field(description=f"{', '.join(MASKS)}, or a mapping with {', '.join(MixMethod.model_fields)}")


class _Mixmo(_Form):
    mix_method: Annotated[MixMethod, BeforeValidator(_as_mapping), _METHOD]
    alpha: float = Field(ge=0, le=1000)
    """a number from 0 to 1000"""
    weight_root: float = Field(gt=0, le=1000)
    """a number above 0 and at most 1000"""


class _Msda(_Form):
    mix_method: Annotated[MixMethod, BeforeValidator(_as_mapping), _METHOD]
    beta: float = Field(gt=0, le=1000)
    """a number above 0 and at most 1000"""
    prob: float = Field(ge=0, le=1)
    """a number from 0 to 1"""


class _DatasetWrapper(_Form):
    mixmo: _Mixmo | None = None
    """null, or a section with mix_method, alpha, weight_root"""
    msda: _Msda | None = None
    """null, or a section with mix_method, beta, prob"""
    da_method: Literal["augmix"] | None = None
    """augmix, or null"""


class _BatchSampler(_Form):
    batch_repetitions: int = Field(default=1, ge=1, le=1_000_000)
    """a whole number from 1 to 1000000"""
    proba_input_repetition: float | None = Field(default=None, ge=0, le=1)
    """a number from 0 to 1, or null"""


_NULL_IS_EMPTY = BeforeValidator(lambda value: {} if value is None else value)


class _Training(_Form):
    nb_epochs: int = Field(ge=1, le=1_000_000)
    """a whole number from 1 to 1000000"""
    batch_size: int = Field(ge=1, le=1_000_000)
    """a whole number from 1 to 1000000"""
    dataset_wrapper: Annotated[_DatasetWrapper, _NULL_IS_EMPTY] = _DatasetWrapper()
    """null, or a section with mixmo, msda, da_method"""
    batch_sampler: Annotated[_BatchSampler, _NULL_IS_EMPTY] = _BatchSampler()
    """null, or a section with batch_repetitions, proba_input_repetition"""


class _Network(_Form):
    name: Literal["wideresnet", "wideresnetmixmo", "resnet", "resnetmixmo"]
    depth: int
    """a whole number: 6n+4 for wideresnet and wideresnetmixmo, 18 for resnet and resnetmixmo"""
    widen_factor: int | None = Field(default=None, ge=1, le=32)
    """a whole number from 1 to 32"""

    @property
    def is_wide(self) -> bool:
        return self.name.startswith("wide")

    @property
    def is_mixmo(self) -> bool:
        return self.name.endswith("mixmo")


def _no_truth_value(value: object) -> object:
    """Refuses true, which Python takes for 1."""
    if isinstance(value, bool):
        raise PydanticCustomError("truth", "a truth value is no coefficient")
    return value


class _Term(_Form):
    name: Literal["soft_cross_entropy", "cross_entropy"]
    coeff: Annotated[Literal[1, "<num_members"], BeforeValidator(_no_truth_value)]
    input: str = Field(pattern=r"^logits(_(0|[1-9]\d?))?$")
    """logits_0 for the first member, logits_1 for the second, and so on"""
    target: str = Field(pattern=r"^target(_(0|[1-9]\d?))?$")
    """target_0 for the first member, target_1 for the second, and so on"""
    display_name: str | None = None
    """a text"""


class _Loss(_Form):
    name: Literal["multitask"]
    listloss: list[_Term]
    """a list of mappings with name, coeff, input, target, display_name"""
    l2_reg: float | None = Field(default=None, ge=0, le=100)
    """a number from 0 to 100, or null"""
    display_name: str | None = None
    """a text"""


class _SgdParams(_Form):
    lr: float = Field(gt=0, le=1000)
    """a number above 0 and at most 1000"""
    momentum: float = Field(default=0.0, ge=0, lt=1)
    """a number at least 0 and below 1"""
    weight_decay: float = Field(default=0.0, ge=0, le=100)
    """a number from 0 to 100"""
    nesterov: bool = False
    """true or false"""


class _Optimizer(_Form):
    name: Literal["sgd"]
    params: _SgdParams
    """a section with lr, momentum, weight_decay, nesterov"""


def _whole_epochs(value: object) -> object:
    """Epochs written as text, as theirs are, become numbers; what is no whole number stays for the type to judge."""
    if not isinstance(value, dict):
        return value
    epochs = [int(key) if isinstance(key, str) and re.fullmatch("[1-9][0-9]{0,6}", key) else key for key in value]
    if len(set(epochs)) < len(epochs):
        raise PydanticCustomError("twice", "an epoch is given twice")
    return dict(zip(epochs, value.values(), strict=True))


class _StepParams(_Form):
    dict_milestone_to_gamma: Annotated[
        dict[Annotated[int, Field(ge=1, le=1_000_000)], Annotated[float, Field(gt=0, le=1000)]],
        BeforeValidator(_whole_epochs),
    ]
    """a mapping from epochs, each given once, a whole number from 1 to 1000000, to numbers above 0 and at most 1000"""


class _LrSchedule(_Form):
    name: Literal["multigamma_step"]
    params: _StepParams
    """a section with dict_milestone_to_gamma"""


class _Wrapper(_Form):
    name: Literal["classifier"]
    network: _Network
    """a section with name, depth, widen_factor"""
    loss: _Loss
    """a section with name, listloss, l2_reg, display_name"""
    optimizer: _Optimizer
    """a section with name, params"""
    lr_schedule: _LrSchedule | None = None
    """null, or a section with name, params"""
    warmup_period: int | None = Field(default=None, ge=0, le=1_000_000_000)
    """a whole number from 0 to 1000000000, or null"""
    metrics: list[Literal[METRICS]] | None = None
    metrics_only_test: list[Literal[METRICS]] | None = None


class _Data(_Form):
    dataset: Literal[tuple(CLASSES)]
    num_classes: int | None = None
    """the number of classes of data.dataset"""


class UpstreamFile(_Form):
    """A whole file."""

    num_members: int = Field(default=1, ge=1, le=16)
    """a whole number from 1 to 16"""
    data: _Data
    """a section with dataset, num_classes"""
    training: _Training
    """a section with nb_epochs, batch_size, dataset_wrapper, batch_sampler"""
    model_wrapper: _Wrapper
    """a section with name, network, loss, optimizer, lr_schedule, warmup_period, metrics, metrics_only_test"""
