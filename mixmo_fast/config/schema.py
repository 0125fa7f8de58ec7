"""What a run is: one frozen `Config` of small sections, each number with its range.

Every section is a pydantic model that refuses unknown keys, coerces nothing (an int is fine where a float
is meant; text is never a number, true is never an int) and cannot be changed afterwards. Rules between keys
stand in the validator of the smallest model that sees them all, and their messages start with the dotted
key, because a user reads them as they are. Building a model directly raises pydantic's `ValidationError`;
files, overrides and errors of one line are the business of `load.py`. Which data sets exist is checked by
the data layer, not here.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from mixmo_fast.mixing.methods import (
    FEATURE_ALIASES,
    IMAGE_ALIASES,
    LEAST_CONCENTRATION,
    MOST_CONCENTRATION,
    MixingMethod,
    MsdaMethod,
    is_concentration,
)
from mixmo_fast.networks.kinds import KINDS, KindName, LibraryName


def _no_number(value: object) -> object:
    """Refuses 1 and 0, which Python takes for true and false."""
    if type(value) is int:
        raise PydanticCustomError("switch", "a number is no switch")
    return value


PUBLISHED_PATCH_PROB = 0.5
"""Probability of patch mixing in the published Cut-MixMo runs; at other steps they mix linearly."""

RESIZED_CROP = {"crop_scale": (0.08, 1.0), "crop_ratio": (3 / 4, 4 / 3)}
"""Shares of the area and ratios of resized crops, where a configuration does not say (torchvision's)."""

Switch = Annotated[Literal["auto", True, False], BeforeValidator(_no_number)]
"""Yes, no, or what is fastest on the device."""

Epoch = Annotated[int, Field(ge=1, le=1_000_000)]
Factor = Annotated[float, Field(gt=0, le=1000)]
Share = Annotated[float, Field(gt=0, le=1)]
Ratio = Annotated[float, Field(ge=0.01, le=100)]


def _own_name(aliases: Mapping[str, str]) -> BeforeValidator:
    """Puts a method's own name for an alias; anything else stays as it is, for the field's type to judge."""
    return BeforeValidator(lambda value: aliases.get(value, value) if isinstance(value, str) else value)


def _check_concentration(key: str, value: float) -> None:
    if not is_concentration(value):
        raise ValueError(f"{key}: found {value:g}, allowed: 0, or {LEAST_CONCENTRATION:g} to {MOST_CONCENTRATION:g}")


MOST_SEED = 2**63 - 1
"""A seed's largest value."""

SCIENCE = ("data", "network", "mixing", "msda", "batch", "optimizer", "schedule", "seed")
"""Sections of a configuration that decide what a run computes; the others may change between its attempts."""


class _Section(BaseModel):
    """The rules that all sections share."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class DataConfig(_Section):
    """The data set and the augmentation of each image."""

    dataset: str = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)
    """Name of the data set: lowercase letters, digits and underscores, a letter first."""
    augmentation: Literal["standard", "augmix", "resized_crop"] = "standard"
    """Crop and flip only (standard), AugMix behind them (augmix, arXiv 1912.02781), or crops stretched to the image."""
    crop_padding: int | None = Field(default=None, ge=0, le=64)
    """Zeros added to each side before the random crop, in pixels; null: the data set's own (resized ones: none)."""
    # YAML has lists only, which a strict tuple would refuse; its numbers stay strict.
    crop_scale: tuple[Share, Share] | None = Field(default=None, strict=False)
    """Smallest and largest share of the area of a resized crop; default there [0.08, 1.0], else null."""
    crop_ratio: tuple[Ratio, Ratio] | None = Field(default=None, strict=False)
    """Smallest and largest width / height of a resized crop; default there [0.75, 1.333...], else null."""
    flip: bool | None = None
    """Whether an image is mirrored left to right with probability 1/2; null: the data set's own."""
    holdout: float = Field(default=0.0, ge=0, lt=1)
    """Fraction of the training images kept out of training, to fit a temperature on afterwards; 0 in the paper."""

    @model_validator(mode="before")
    @classmethod
    def _resized_crops_have_a_law(cls, values: object) -> object:
        if not isinstance(values, dict) or values.get("augmentation") != "resized_crop":
            return values
        return values | {key: law for key, law in RESIZED_CROP.items() if values.get(key) is None}

    @model_validator(mode="after")
    def _crops_suit_augmentation(self) -> "DataConfig":
        resized = self.augmentation == "resized_crop"
        if resized and self.crop_padding is not None:
            raise ValueError(
                f"data.crop_padding: found {self.crop_padding}, allowed with data.augmentation resized_crop: only null"
            )
        for key, law in (("crop_scale", self.crop_scale), ("crop_ratio", self.crop_ratio)):
            if law is not None and not resized:
                raise ValueError(
                    f"data.{key}: found {list(law)}, allowed with data.augmentation {self.augmentation}: only null"
                )
            if law is not None and law[0] > law[1]:
                raise ValueError(f"data.{key}: found {list(law)}, allowed: the smaller number first")
        return self


class NetworkConfig(_Section):
    """One of the paper's networks, and how many subnetworks live in it."""

    kind: KindName
    """Family of the network."""
    depth: int = Field(ge=10, le=1000)
    """Number of layers; each kind has its own (`mixmo_fast.networks.kinds`)."""
    width: int = Field(ge=1, le=32)
    """Factor on the number of channels."""
    members: int = Field(default=1, ge=1, le=16)
    """Number of subnetworks M, each with an encoder and a head of its own; 1 is an ordinary network."""

    @model_validator(mode="after")
    def _depth_suits_kind(self) -> "NetworkConfig":
        kind = KINDS[self.kind]
        if self.depth not in kind.depths:
            raise ValueError(
                f"network.depth: found {self.depth}, allowed with network.kind {self.kind}: {kind.allowed_depths}"
            )
        return self


class LibraryNetworkConfig(_Section):
    """A network of another library, and how many subnetworks live in it."""

    kind: LibraryName
    """The library."""
    name: str = Field(pattern=r"^[a-z][a-z0-9_.]*$", max_length=128)
    """What the library calls the network: lowercase letters, digits, underscores and dots, a letter first."""
    pretrained: bool = False
    """Whether it starts from the weights that the library has for it, which are downloaded."""
    members: int = Field(default=1, ge=1, le=16)
    """Number of subnetworks M, each with an encoder and a head of its own; 1 is an ordinary network."""


AnyNetwork = NetworkConfig | LibraryNetworkConfig


class MixingConfig(_Section):
    """How the members' features are mixed behind their encoders, and how that weighs their losses."""

    method: Annotated[MixingMethod, _own_name(FEATURE_ALIASES)]
    """Mixing by weights (linear, alias mixup), by a box (patch, alias cutmix) or by another mask."""
    prob: float = Field(ge=0, le=1)
    """Probability, a step, of `method`, else `replacement`; default 1.0 if both are linear, 0.5 for the others."""
    replacement: Annotated[MixingMethod, _own_name(FEATURE_ALIASES)] = "linear"
    """Mixing of the steps that do not use `method`; linear (alias mixup) in the paper."""
    alpha: float = Field(default=2.0, ge=0, le=1000)
    """Concentration of the Dirichlet law that the ratios are drawn from, 0.001 or more; 0: exactly 1/M each (MIMO)."""
    weight_root: float = Field(default=3.0, ge=0.001, le=1000)
    """Root r of the ratio in a member's loss weight kappa^(1/r): 1 keeps the ratio, more evens it out."""
    decay_from: float = Field(default=11 / 12, gt=0, le=1)
    """Fraction of the run after which `prob` falls linearly, to reach 0 at the last epoch."""

    @model_validator(mode="before")
    @classmethod
    def _prob_follows_method(cls, values: object) -> object:
        if not isinstance(values, dict) or "prob" in values:
            return values
        linear = all(values.get(key, "linear") in ("linear", "mixup") for key in ("method", "replacement"))
        return {**values, "prob": 1.0 if linear else PUBLISHED_PATCH_PROB}

    @model_validator(mode="after")
    def _alpha_is_a_number_to_compute_with(self) -> "MixingConfig":
        _check_concentration("mixing.alpha", self.alpha)
        return self

    @model_validator(mode="after")
    def _replacement_has_steps(self) -> "MixingConfig":
        if self.replacement != "linear" and self.replacement not in self.used:
            raise ValueError(
                f"mixing.replacement: found {self.replacement}, allowed with mixing.prob 1 and mixing.decay_from 1, "
                "where no step needs it: only linear"
            )
        return self

    @property
    def used(self) -> tuple[MixingMethod, ...]:
        """The methods that steps of the run are mixed by, without repeats."""
        always, never = self.prob == 1 and self.decay_from == 1, self.prob == 0
        return tuple(dict.fromkeys([self.method] * (not never) + [self.replacement] * (not always)))


class MsdaConfig(_Section):
    """Mixed sample data augmentation: each input image may be mixed with a partner image."""

    method: Annotated[MsdaMethod, _own_name(IMAGE_ALIASES)]
    """Mixing by a weight (mixup), by a box (cutmix) or by another mask."""
    prob: float = Field(default=0.5, ge=0, le=1)
    """Probability that an image is mixed at all."""
    beta: float = Field(default=1.0, ge=0, le=1000)
    """The ratio is drawn from Beta(beta, beta), 0.001 or more; 1 is uniform, 0 means exactly 1/2."""

    @model_validator(mode="after")
    def _beta_is_a_number_to_compute_with(self) -> "MsdaConfig":
        _check_concentration("msda.beta", self.beta)
        return self


class BatchConfig(_Section):
    """The rows of one training step."""

    rows: int = Field(default=64, ge=1, le=1_000_000)
    """Rows a step, repeats counted (B in the paper)."""
    repetitions: int = Field(default=1, ge=1, le=1_000_000)
    """How often each image occurs in a step for each member (b in the paper); divides `rows`."""
    input_repetition: float = Field(default=0.0, ge=0, le=1)
    """Fraction of the rows in which all members see the same image."""

    @model_validator(mode="after")
    def _repetitions_divide_rows(self) -> "BatchConfig":
        if self.rows % self.repetitions:
            raise ValueError(
                f"batch.rows: found {self.rows}, allowed with batch.repetitions {self.repetitions}: "
                f"a multiple of {self.repetitions}"
            )
        return self


class OptimizerConfig(_Section):
    """Stochastic gradient descent."""

    lr: float = Field(gt=0, le=1000)
    """Base learning rate, reached at the end of the warm-up."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum; 0 is plain gradient descent."""
    nesterov: bool = True
    """Nesterov's form of the momentum; needs a momentum above 0."""
    weight_decay: float = Field(ge=0, le=1000)
    """Coupled L2 decay of all parameters, biases and batch-norm included."""
    lr_scaling: Literal["none", "linear"] = "none"
    """Whether the rate is lr as it is, or lr * batch.rows / lr_rows (arXiv 1706.02677)."""
    lr_rows: int | None = Field(default=None, ge=1, le=1_000_000)
    """Rows a step that lr is meant for, where it is scaled; null: those of the paper's runs."""

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> "OptimizerConfig":
        if self.nesterov and self.momentum == 0:
            raise ValueError(
                "optimizer.momentum: found 0 with optimizer.nesterov true, "
                "allowed: a momentum above 0, or nesterov false"
            )
        return self


class ScheduleConfig(_Section):
    """How long a run is and how the learning rate moves: a linear warm-up, then steps."""

    epochs: int = Field(ge=1, le=1_000_000)
    """Passes over the training set."""
    warmup_steps: int = Field(ge=0, le=1_000_000_000)
    """Steps over which the rate rises linearly to the base rate; 0: none."""
    milestones: dict[Epoch, Factor] = {}
    """Epoch (from 1) -> factor on the rate from its start on, for good; epochs past the end never come."""

    @model_validator(mode="before")
    @classmethod
    def _milestones_in_order(cls, values: Any) -> Any:
        milestones = values.get("milestones") if isinstance(values, dict) else None
        if isinstance(milestones, dict) and all(type(epoch) is int for epoch in milestones):
            return {**values, "milestones": dict(sorted(milestones.items()))}
        return values


class StepConfig(_Section):
    """How a training step is computed; changes the speed and the rounding, never what is computed."""

    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    """Number format of the network's arithmetic; auto: bf16 on a GPU or processor that has it, else fp32."""
    channels_last: bool = True
    """Keep feature maps with the channels innermost in memory."""
    stem: Literal["auto", "separate", "grouped", "dense"] = "auto"
    """The encoders as convolutions of their own, one of M groups, or one with zeros between members; auto: separate."""
    compile: Switch = "auto"
    """torch.compile forward pass and loss; auto: on a GPU, and on a CPU for runs that are worth it."""
    cuda_graph: Switch = "auto"
    """Capture the step once as a CUDA graph and replay it; auto: on a GPU, unless several train together."""
    cudnn_benchmark_limit: int = Field(default=10, ge=0, le=1000)
    """Algorithms that cuDNN tries for each convolution at the start on a GPU; 0: all it has."""
    fused_optimizer: bool = True
    """Update all parameters in one kernel instead of one after the other."""
    deterministic: bool = False
    """Use only operations that give the same bits on every run on one kind of device."""


class EvaluationConfig(_Section):
    """Evaluation during training."""

    every_epochs: int = Field(default=1, ge=1, le=1_000_000)
    """Evaluate after every n epochs."""
    rows: int = Field(default=500, ge=1, le=1_000_000)
    """Images in one forward pass."""


class CheckpointConfig(_Section):
    """Checkpoints kept beside the last and the best."""

    every_epochs: int = Field(default=30, ge=0, le=1_000_000)
    """Keep one every n epochs; 0: only the last and the best."""
    every_minutes: float | None = Field(default=None, gt=0, le=1_000_000)
    """Also save the last within an epoch, every so many minutes; null: at its end alone, and when a signal asks."""


class Config(_Section):
    """A run, complete: with the code's version and the data set, it determines every random decision."""

    data: DataConfig
    """The data set and the augmentation of each image."""
    network: Annotated[AnyNetwork, Field(discriminator="kind")]
    """The base network and its members."""
    mixing: MixingConfig | None = None
    """Feature mixing; needed by two or more members, null for one."""
    msda: MsdaConfig | None = None
    """Mixing of the input images; null: none."""
    batch: BatchConfig = BatchConfig()
    """The rows of a step."""
    optimizer: OptimizerConfig
    """Gradient descent."""
    schedule: ScheduleConfig
    """Length of the run and learning rate."""
    step: StepConfig = StepConfig()
    """How a step is computed."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Evaluation during training."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """Checkpoints kept."""
    seed: int = Field(default=1, ge=0, le=MOST_SEED)
    """Seed of everything random: initial weights, order, crops, flips, partners, masks."""

    def held_out(self, images: int) -> int:
        """How many of a training set's images are kept out of training."""
        return int(images * self.data.holdout)

    def steps_per_epoch(self, images: int) -> int:
        """Steps of an epoch of a training set, floor(N * b / B) of the N that are trained on; the rest is dropped."""
        return (images - self.held_out(images)) * self.batch.repetitions // self.batch.rows

    @model_validator(mode="after")
    def _rows_of_the_rate_are_known(self) -> "Config":
        network, optimizer = self.network, self.optimizer
        if isinstance(network, LibraryNetworkConfig) and optimizer.lr_scaling != "none" and optimizer.lr_rows is None:
            raise ValueError(
                f"optimizer.lr_rows: missing with optimizer.lr_scaling {optimizer.lr_scaling} and network.kind "
                f"{network.kind}, which the paper has no rate for, allowed: a whole number from 1 to 1000000"
            )
        return self

    @model_validator(mode="after")
    def _mixing_suits_members(self) -> "Config":
        members = self.network.members
        if members >= 2 and self.mixing is None:
            raise ValueError(
                f"mixing: missing with network.members {members}, allowed: a mixing section, or network.members 1"
            )
        if members == 1 and self.mixing is not None:
            raise ValueError(
                "mixing: found a section with network.members 1, allowed: null, or network.members 2 or more"
            )
        return self
