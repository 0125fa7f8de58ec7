"""The forms of a run folder's JSON files, as far as figures and pages want them.

A file may be of an older version, so every key that a reader can do without may be missing; what is there has to be
of its type and shape. Unknown keys are left for others. Rates and shares are fractions, NLL in nats; None is what is
missing or undefined.

Shapes: M members, K classes, B bins, C corruptions, V severities, F filters of an encoder, T thresholds.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class SavedPart(BaseModel):
    """The rules that all of them share."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class SavedScores(SavedPart):
    """Scores of a test set; see `mixmo_fast.evaluation.metrics.Scores`."""

    top1: float | None = None
    top5: float | None = None
    nll: float | None = None
    ece: float | None = None
    brier: float | None = None
    auc: float | None = None
    tace: float | None = None
    member_top1: tuple[float, ...] = ()
    member_top1_mean: float | None = None
    diversity: float | None = None
    disagreement: float | None = None


class Epoch(SavedScores):
    """A line of `metrics.jsonl`; without scores where the epoch was not evaluated."""

    epoch: int
    learning_rate: float | None = None
    train_loss: float | None = None
    train_seconds: float | None = None
    test_seconds: float | None = None
    rows_per_second: float | None = None


class BestScores(SavedScores):
    """Scores of the epoch with the best test top-1."""

    epoch: int | None = None


class RunSummary(SavedPart):
    """`summary.json`."""

    dataset: str | None = None
    config: str | None = None
    seed: int | None = None
    epochs: int | None = None
    device: str | None = None
    pipeline: str | None = None
    precision: str | None = None
    last: SavedScores | None = None
    best_on_test: BestScores | None = None
    rows_per_second: float | None = None
    images_per_second: float | None = None
    train_seconds: float | None = None
    definitions: dict[str, str] = {}
    versions: dict[str, str] = {}


class StartedFrom(SavedPart):
    """The file whose weights, and momentum if so, a run began with; see `mixmo_fast.training.start`."""

    path: str
    sha256: str
    optimizer: bool = False


class Environment(SavedPart):
    """`environment.json`."""

    versions: dict[str, str] = {}
    platform: str | None = None
    device: str | None = None
    cpu_capability: str | None = None
    cuda: str | None = None
    threads: int | None = None
    command: tuple[str, ...] = ()
    ranks: int | None = None
    init: StartedFrom | None = None
    step: dict[str, Any] = {}


class Bin(SavedPart):
    """A bin of confidence; its averages are None where it is empty."""

    low: float
    high: float
    count: int
    confidence: float | None = None
    accuracy: float | None = None


class Reliability(SavedPart):
    """Bins (B) before and, where there is one, after temperature scaling."""

    before: tuple[Bin, ...] = ()
    after: tuple[Bin, ...] | None = None


class SavedScaling(SavedPart):
    """Temperature scaling: what it was fitted on, and the scores after it."""

    calibrated_on: str
    temperatures: tuple[float, ...]
    scores: SavedScores


class SavedSelective(SavedPart):
    """A risk-coverage curve, and what it says in numbers."""

    coverage: tuple[float, ...]
    risk: tuple[float, ...]
    aurc: float | None = None
    accuracy_at_80: float | None = None
    accuracy_at_90: float | None = None
    accuracy_at_95: float | None = None

    @model_validator(mode="after")
    def _has_pairs(self) -> "SavedSelective":
        if len(self.coverage) != len(self.risk) or not self.risk:
            raise ValueError(f"{len(self.coverage)} coverages and {len(self.risk)} risks; allowed: as many, at least 1")
        return self


class SavedRobustness(SavedPart):
    """Top-1 (C, V) of each corruption at each severity."""

    source: str
    corruptions: tuple[str, ...]
    severities: tuple[int, ...]
    top1: tuple[tuple[float, ...], ...]
    pooled: SavedScores = SavedScores()
    mean_top1: float | None = None
    mce: float | None = None
    mce_against: str | None = None

    @model_validator(mode="after")
    def _is_a_table(self) -> "SavedRobustness":
        shape = [len(row) for row in self.top1]
        if shape != [len(self.severities)] * len(self.corruptions) or not shape or not self.severities:
            raise ValueError(f"rows of {shape} numbers; allowed: {len(self.severities)} for each corruption")
        return self


class SavedDetector(SavedPart):
    """How well a score tells foreign images from the test set."""

    name: str
    auroc: float | None = None
    fpr95: float | None = None
    aupr: float | None = None


class ForeignSet(SavedPart):
    """A data set that the network was not trained for."""

    dataset: str
    images: int | None = None
    detectors: tuple[SavedDetector, ...] = ()


class SavedEvaluation(SavedScores):
    """`evaluation.json`; `confusion` (K, K) has true labels as rows."""

    dataset: str | None = None
    split: str | None = None
    images: int | None = None
    checkpoint: str | None = None
    epoch: int | None = None
    ensemble: str | None = None
    classes: tuple[str, ...] = ()
    reliability: Reliability | None = None
    confusion: tuple[tuple[int, ...], ...] = ()
    temperature_scaling: SavedScaling | None = None
    selective: SavedSelective | None = None
    robustness: SavedRobustness | None = None
    ood: tuple[ForeignSet, ...] = ()

    @model_validator(mode="after")
    def _is_square(self) -> "SavedEvaluation":
        classes = len(self.confusion)
        if any(len(row) != classes or min(row) < 0 for row in self.confusion):
            raise ValueError(f"a confusion matrix of {classes} rows; allowed: as many counts in each of them")
        if classes and len(self.classes) not in (0, classes):
            raise ValueError(f"{len(self.classes)} classes; allowed: none, or {classes} as in the confusion matrix")
        return self


class LayerActivity(SavedPart):
    """Shares (T) of a layer's filters that are active."""

    name: str
    filters: int
    share: tuple[float, ...]


class FilterActivity(SavedPart):
    """Shares (T) of the trunk's filters that are active, by threshold. Records without a definition had this one."""

    definition: str = (
        "share of the trunk's filters, shortcuts included, whose L1 norm is at least the threshold times the largest "
        "of their layer"
    )
    thresholds: tuple[float, ...]
    share: tuple[float, ...]
    layers: tuple[LayerActivity, ...] = ()

    @model_validator(mode="after")
    def _has_a_share_a_threshold(self) -> "FilterActivity":
        for shares in (self.share, *(layer.share for layer in self.layers)):
            if len(shares) != len(self.thresholds) or not shares:
                raise ValueError(f"{len(shares)} shares; allowed: one for each of {len(self.thresholds)} thresholds")
        return self


class MembersUsed(SavedPart):
    """Top-1 with so many members at inference: mean, lowest and highest of all subsets of that size."""

    members: int
    top1: float
    lowest: float | None = None
    highest: float | None = None


class SavedInspection(SavedPart):
    """`inspection.json`; `encoder_l1` is (M, F)."""

    checkpoint: str | None = None
    epoch: int | None = None
    encoder_l1: tuple[tuple[float, ...], ...] = ()
    active_filters: FilterActivity | None = None
    top1_by_members: tuple[MembersUsed, ...] = ()
    epochs: tuple[Epoch, ...] = ()

    @model_validator(mode="after")
    def _encoders_are_alike(self) -> "SavedInspection":
        if len({len(norms) for norms in self.encoder_l1}) > 1 or () in self.encoder_l1:
            raise ValueError("encoder_l1 of different lengths; allowed: a norm for each filter of each member")
        return self
