"""The form of the authors' configuration files (mixmo-pytorch), as strict as our own schema.

The models say what a file of theirs may hold, key by key; names that stand for nothing this program does are not among
them. A key that may be missing may also be null, which is how they write that a thing is absent. Rules between keys,
and what a user is told, are in `upstream_check.py`. Values only; there are no arrays here.
"""

import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from mixmo_fast.mixing.methods import AUTHORS_MASKS
from mixmo_fast.networks.kinds import KINDS, KindName

CLASSES = {"cifar10": 10, "cifar100": 100, "tinyimagenet": 200, "tinyimagenet200": 200}
"""K of the data sets that mixmo-pytorch knows, in its spellings."""

SEEDS_BY_CHANNEL = ("patchuphard", "patchupsoft")
"""Masks of theirs that draw seeds for each channel. Here they have one set for all, which is their `patchuphard2d`."""

_KIND_OF_NAME: dict[str, KindName] = {name: kind for kind, row in KINDS.items() for name in row.authors_names}
_DEPTHS = ", ".join(f"{kind.depth_rule} for {' and '.join(kind.authors_names)}" for kind in KINDS.values())

if TYPE_CHECKING:  # which cannot read a table
    _Mask = str
    _NetworkName = str
    _DatasetName = str
else:
    _Mask, _NetworkName, _DatasetName = Literal[AUTHORS_MASKS], Literal[tuple(_KIND_OF_NAME)], Literal[tuple(CLASSES)]

LISTED_MEMBERS = 3
"""Members that their list of losses is written for; it is too short for more, and their program then fails."""


class _Form(BaseModel):
    """A section of theirs. A key's docstring says what it allows, as a message completes `allowed: `."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        may_be_missing = {name for name, field in cls.model_fields.items() if not field.is_required()}
        return {key: value for key, value in values.items() if value is not None or key not in may_be_missing}


class MixMethod(_Form):
    """A mask, drawn with a probability, and else another one; a bare name is that mask, always."""

    method_name: _Mask
    prob: float | None = Field(default=None, ge=0, le=1)
    """a number from 0 to 1, or null"""
    replacement_method_name: _Mask | None = None

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
    if value in AUTHORS_MASKS:
        return {"method_name": value}
    if not isinstance(value, dict):
        raise PydanticCustomError("method", "neither a known name nor a mapping")
    return value


_METHOD = Field(description=f"{', '.join(AUTHORS_MASKS)}, or a mapping with {', '.join(MixMethod.model_fields)}")


class _Mixmo(_Form):
    mix_method: Annotated[MixMethod, BeforeValidator(_as_mapping), _METHOD]
    alpha: float = Field(ge=-1000, le=1000)
    """a number from -1000 to 1000; 0 and less: equal ratios"""
    weight_root: float = Field(gt=0, le=1000)
    """a number above 0 and at most 1000"""


class _Msda(_Form):
    mix_method: Annotated[MixMethod, BeforeValidator(_as_mapping), _METHOD]
    beta: float = Field(ge=-1000, le=1000)
    """a number from -1000 to 1000; 0 and less: equal ratios"""
    prob: float = Field(ge=0, le=1)
    """a number from 0 to 1"""


class _DatasetWrapper(_Form):
    mixmo: _Mixmo | None = None
    """null, or a section with mix_method, alpha, weight_root"""
    msda: _Msda | None = None
    """null, or a section with mix_method, beta, prob"""
    da_method: Literal["augmix", "none"] = "none"
    """augmix, or none, or null"""


class _BatchSampler(_Form):
    batch_repetitions: int = Field(default=1, ge=1, le=1_000_000)
    """a whole number from 1 to 1000000"""
    proba_input_repetition: float = Field(default=0.0, ge=0, le=1)
    """a number from 0 to 1, or null"""


class _Training(_Form):
    nb_epochs: int = Field(ge=1, le=1_000_000)
    """a whole number from 1 to 1000000"""
    batch_size: int = Field(ge=1, le=1_000_000)
    """a whole number from 1 to 1000000"""
    dataset_wrapper: _DatasetWrapper = _DatasetWrapper()
    """null, or a section with mixmo, msda, da_method"""
    batch_sampler: _BatchSampler = _BatchSampler()
    """null, or a section with batch_repetitions, proba_input_repetition"""


class _Network(_Form):
    name: _NetworkName
    depth: int = Field(description=f"a whole number: {_DEPTHS}")
    widen_factor: int | None = Field(default=None, ge=1, le=32)
    """a whole number from 1 to 32"""

    @property
    def kind(self) -> KindName:
        return _KIND_OF_NAME[self.name]

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
    l2_reg: float = Field(default=0.0, ge=0, le=100)
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
    dampening: Literal[0] = 0
    """only 0, torch's default"""
    maximize: Literal[False] = False
    """only false, torch's default"""
    differentiable: Literal[False] = False
    """only false, torch's default"""
    foreach: bool | None = None
    """true, false or null; it changes the speed alone"""
    fused: bool | None = None
    """true, false or null; it changes the speed alone"""


class _Optimizer(_Form):
    name: Literal["sgd"]
    params: _SgdParams
    """a section with lr, momentum, weight_decay, nesterov"""


def _whole_epochs(value: object) -> object:
    """Epochs written as text become numbers; what is no whole number stays for the type to judge."""
    if not isinstance(value, dict):
        return value
    epochs = [int(key) if isinstance(key, str) and re.fullmatch("-?[1-9][0-9]{0,6}", key) else key for key in value]
    if len(set(epochs)) < len(epochs):
        raise PydanticCustomError("twice", "an epoch is given twice")
    return dict(zip(epochs, value.values(), strict=True))


def _not_the_start(epoch: int) -> int:
    """Refuses 0: epochs count from 1, and unlike -1 it is not known never to be reached."""
    if epoch == 0:
        raise PydanticCustomError("start", "no epoch")
    return epoch


class _StepParams(_Form):
    dict_milestone_to_gamma: Annotated[
        dict[
            Annotated[int, Field(ge=-1_000_000, le=1_000_000), AfterValidator(_not_the_start)],
            Annotated[float, Field(gt=0, le=1000)],
        ],
        BeforeValidator(_whole_epochs),
    ]
    """a mapping from epochs, each given once, from 1 to 1000000 (-1: never), to numbers above 0 and at most 1000"""


class _LrSchedule(_Form):
    name: Literal["multigamma_step"]
    params: _StepParams
    """a section with dict_milestone_to_gamma"""


class _Wrapper(_Form):
    name: str | None = None
    """a text"""
    network: _Network
    """a section with name, depth, widen_factor"""
    loss: _Loss
    """a section with name, listloss, l2_reg, display_name"""
    optimizer: _Optimizer
    """a section with name, params"""
    lr_schedule: _LrSchedule | None = None
    """null, or a section with name, params"""
    warmup_period: int = Field(default=0, ge=0, le=1_000_000_000)
    """a whole number from 0 to 1000000000, or null"""
    metrics: list[str] | None = None
    """null, or a list of names"""
    metrics_only_test: list[str] | None = None
    """null, or a list of names"""


class _Data(_Form):
    dataset: _DatasetName
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

    @property
    def inputs(self) -> list[str]:
        """What the losses are taken of: the logits of each member."""
        return [f"logits_{member}" for member in range(self.num_members)]

    @property
    def inputs_left_out(self) -> list[str]:
        """Those of the members that the list of losses has no term for."""
        listed = {term.input for term in self.model_wrapper.loss.listloss}
        # One network's logits may go without a number.
        return [name for name in self.inputs if name not in listed and (self.num_members > 1 or "logits" not in listed)]
