"""What evaluations and inspections write about a checkpoint and its page reads.

What a `Saved...` is of is richer while it lives: it has a network, logits, or checks of its own.

Rates and shares are fractions, NLL in nats; None is what is undefined, or missing in a file of an older version.

Shapes: M members, K classes, B bins, C corruptions, V severities, F filters of an encoder, T thresholds.
"""

from math import exp, log
from statistics import fmean
from typing import Annotated

from pydantic import model_validator

from mixmo_fast.runfolder.record import Record
from mixmo_fast.runfolder.records import Epoch
from mixmo_fast.runfolder.scores import Score, Scores, rows_of


class Bin(Record):
    """One bar of a reliability diagram: the images whose confidence is in (low, high].

    Attributes:
        low: Lower edge.
        high: Upper edge.
        count: Images.
        confidence: Their mean confidence; None where there are none.
        accuracy: Fraction of them that is predicted right; None where there are none.
    """

    low: float
    high: float
    count: int
    confidence: float | None = None
    accuracy: float | None = None


class Reliability(Record):
    """Bins (B) before and, where there is one, after temperature scaling."""

    before: tuple[Bin, ...] = ()
    after: tuple[Bin, ...] | None = None


class SavedScaling(Record):
    """Temperature scaling: what it was fitted on, and the scores after it."""

    calibrated_on: str
    temperatures: tuple[float, ...]
    scores: Scores

    @property
    def temperature(self) -> float:
        """For images of neither half: the geometric mean of those that were fitted; 1 where none was."""
        return exp(fmean(map(log, self.temperatures or (1.0,))))

    @model_validator(mode="after")
    def _is_positive(self) -> "SavedScaling":
        if any(one <= 0 for one in self.temperatures):
            raise ValueError(f"temperatures {self.temperatures}; allowed: numbers above 0")
        return self


class Selective(Record):
    """What abstaining would bring.

    Attributes:
        coverage: Fractions of images that are predicted, ascending from 1 / S of S to 1; at most 201 points.
        risk: Fraction of errors among the predicted ones at each of these coverages.
        aurc: Area under the risk-coverage curve: mean of the risk over the coverages i / S, i = 1..S.
        accuracy_at_80: 1 - risk at the least coverage i / S that is no smaller than 80 %.
        accuracy_at_90: The same for 90 %.
        accuracy_at_95: The same for 95 %.
    """

    coverage: tuple[float, ...]
    risk: tuple[float, ...]
    aurc: float | None = None
    accuracy_at_80: float | None = None
    accuracy_at_90: float | None = None
    accuracy_at_95: float | None = None

    @model_validator(mode="after")
    def _has_pairs(self) -> "Selective":
        if len(self.coverage) != len(self.risk) or not self.risk:
            raise ValueError(f"{len(self.coverage)} coverages and {len(self.risk)} risks; allowed: as many, at least 1")
        return self


class Abstention(Record):
    """When a later prediction should abstain, as the test split says.

    Attributes:
        coverage: Fractions of the test images, ascending from 1 / S of S to 1; at most 201 points.
        confidence: The least confidence among the most confident images that are so many: the largest probability
            after temperature scaling with `SavedScaling.temperature`.
    """

    coverage: tuple[float, ...]
    confidence: tuple[float, ...]

    @model_validator(mode="after")
    def _has_pairs(self) -> "Abstention":
        if len(self.coverage) != len(self.confidence) or not self.confidence:
            raise ValueError(
                f"{len(self.coverage)} coverages and {len(self.confidence)} confidences; allowed: as many, at least 1"
            )
        return self

    def threshold(self, coverage: float) -> float:
        """The confidence below which to abstain, so that at least a share of the test images is predicted.

        Args:
            coverage: Above 0, at most 1.
        """
        fitting = [
            confidence
            for share, confidence in zip(self.coverage, self.confidence, strict=True)
            if share >= coverage - 1e-12
        ]
        return fitting[0] if fitting else self.confidence[-1]


class SavedRobustness(Record):
    """Top-1 (C, V) of each corruption at each severity; see `mixmo_fast.evaluation.robustness.Robustness`."""

    source: str
    corruptions: tuple[str, ...]
    severities: tuple[int, ...]
    top1: tuple[tuple[float, ...], ...]
    benchmark: tuple[str, ...] = ()
    pooled: Scores = Scores()
    mean_top1: float | None = None
    mce: float | None = None
    mce_against: str | None = None

    @model_validator(mode="after")
    def _is_a_table(self) -> "SavedRobustness":
        shape = [len(row) for row in self.top1]
        if shape != [len(self.severities)] * len(self.corruptions) or not shape or not self.severities:
            raise ValueError(f"rows of {shape} numbers; allowed: {len(self.severities)} for each corruption")
        return self


class Detector(Record):
    """How well a score tells foreign images from the test set, all thresholds counted.

    Attributes:
        name: `max_probability`, `entropy`, `energy` or `disagreement`; see `mixmo_fast.evaluation.ood.detector_scores`.
        auroc: Area under the ROC curve: the chance that an image of the network's own set scores higher than one of the
            other set, ties counting half.
        fpr95: Fraction of the other set that is accepted at the highest threshold that accepts at least 95 % of the
            network's own.
        aupr: Average precision: precision at each threshold, weighted by the recall gained there.
    """

    name: str
    auroc: Annotated[float | None, Score("AUROC", "", "AUROC", "higher")] = None
    fpr95: Annotated[float | None, Score("FPR at 95 % TPR", "", "FPR at 95 % TPR", "lower", in_percent=True)] = None
    aupr: Annotated[float | None, Score("AUPR", "", "AUPR", "higher")] = None


DETECTOR_SCORES = rows_of(Detector)
"""How a detector's scores are shown, by name."""


class ForeignSet(Record):
    """The detectors on a data set that the network was not trained for, of which so many images were scored."""

    dataset: str
    images: int | None = None
    detectors: tuple[Detector, ...] = ()


class Evaluated(Record):
    """What was evaluated, and how; `weights_sha256` is `mixmo_fast.training.checkpoint.weights_sha256`."""

    dataset: str | None = None
    split: str | None = None
    images: int | None = None
    checkpoint: str | None = None
    epoch: int | None = None
    weights_sha256: str | None = None
    precision: str | None = None
    ensemble: str | None = None


class SavedEvaluation(Scores, Evaluated):
    """`evaluation.json`; `confusion` (K, K) has true labels as rows."""

    temperature_scaling: SavedScaling | None = None
    classes: tuple[str, ...] = ()
    reliability: Reliability | None = None
    confusion: tuple[tuple[int, ...], ...] = ()
    selective: Selective | None = None
    abstention: Abstention | None = None
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


class LayerActivity(Record):
    """Shares (T) of the filters of a convolution of the trunk, such as `layer1.0.conv1`, that are active."""

    name: str
    filters: int
    share: tuple[float, ...]


class FilterActivity(Record):
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


class MembersUsed(Record):
    """Top-1 with so many members at inference: mean, lowest and highest of all subsets of that size."""

    members: int
    top1: float
    lowest: float | None = None
    highest: float | None = None


class SavedInspection(Record):
    """`inspection.json`; `encoder_l1` is (M, F)."""

    checkpoint: str | None = None
    epoch: int | None = None
    weights_sha256: str | None = None
    encoder_l1: tuple[tuple[float, ...], ...] = ()
    active_filters: FilterActivity | None = None
    top1_by_members: tuple[MembersUsed, ...] = ()
    epochs: tuple[Epoch, ...] = ()

    @model_validator(mode="after")
    def _encoders_are_alike(self) -> "SavedInspection":
        if len({len(norms) for norms in self.encoder_l1}) > 1 or () in self.encoder_l1:
            raise ValueError("encoder_l1 of different lengths; allowed: a norm for each filter of each member")
        return self
