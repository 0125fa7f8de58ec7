"""The scores of a test set, a row each: what it is called, how it is written, what it means, which way is better.

A new score is a function in `mixmo_fast.evaluation.metrics` and a row here: files, TensorBoard, the table on the
terminal and the one of a run's page follow. Rates are fractions, NLL in nats.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from mixmo_fast.runfolder.record import Record


@dataclass(frozen=True)
class Score:
    """How a score is shown, and what it means.

    Attributes:
        label: In the table on the terminal; empty where it has no row there.
        title: The same on a page.
        note: What sets it apart from others of its name, beside it on the terminal.
        definition: In a sentence.
        better: Which way; None: neither.
        of: Whether it is of the ensemble or of its members.
        in_percent: Whether it is written in percent.
    """

    label: str
    title: str
    note: str
    definition: str
    better: Literal["higher", "lower"] | None
    of: Literal["ensemble", "members"] = "ensemble"
    in_percent: bool = False

    def written(self, value: float | None, undefined: str = "-") -> str:
        """A value as `97.77 %` or `0.2398`."""
        if value is None:
            return undefined
        return f"{100 * value:.2f} %" if self.in_percent else f"{value:.4f}"


class Scores(Record):
    """What a test set says of a network; None is undefined on it, or missing in a file of an older version.

    The ensemble's logits are those of `mixmo_fast.evaluation.metrics.ensemble_logits`.
    """

    top1: Annotated[
        float | None,
        Score(
            label="top-1",
            title="Top-1",
            note="",
            definition="fraction of images whose largest logit is the label's; of equal ones the first is the largest",
            better="higher",
            in_percent=True,
        ),
    ] = None
    top5: Annotated[
        float | None,
        Score(
            label="top-5",
            title="Top-5",
            note="",
            definition="fraction of images whose label is among the five largest logits, likewise; null when K < 5",
            better="higher",
            in_percent=True,
        ),
    ] = None
    nll: Annotated[
        float | None,
        Score(
            label="NLL",
            title="NLL, nats",
            note="nats",
            definition="mean negative log-likelihood of the ensemble, nats",
            better="lower",
        ),
    ] = None
    ece: Annotated[
        float | None,
        Score(
            label="ECE",
            title="ECE, 15 equal bins",
            note="15 equal bins, right-closed",
            definition="expected calibration error, 15 equal bins, a fraction",
            better="lower",
        ),
    ] = None
    brier: Annotated[
        float | None,
        Score(
            label="Brier",
            title="Brier, sum over classes",
            note="sum over classes",
            definition="mean over images of the sum over classes of (p - one_hot)^2, from 0 to 2",
            better="lower",
        ),
    ] = None
    brier_per_class: Annotated[
        float | None,
        Score(
            label="",
            title="",
            note="divided by K",
            definition="brier / K, which the authors' implementation prints",
            better="lower",
        ),
    ] = None
    auc: Annotated[
        float | None,
        Score(
            label="AUC",
            title="AUC of confidence against correctness",
            note="confidence against correctness",
            definition="area under the ROC curve of confidence as a score for being right; null if all or none are",
            better="higher",
        ),
    ] = None
    tace: Annotated[
        float | None,
        Score(
            label="TACE",
            title="TACE, 15 equal-mass bins a class",
            note="15 equal-mass bins a class, threshold 0.001",
            definition="thresholded adaptive calibration error, a fraction",
            better="lower",
        ),
    ] = None
    member_top1: Annotated[
        tuple[float, ...],
        Score(
            label="member {} top-1",
            title="Top-1 of member {} alone",
            note="",
            definition="top-1 of each member alone",
            better="higher",
            of="members",
            in_percent=True,
        ),
    ] = ()
    member_top1_mean: Annotated[
        float | None,
        Score(
            label="members' mean",
            title="",
            note="",
            definition="mean of the members' top-1",
            better="higher",
            of="members",
            in_percent=True,
        ),
    ] = None
    diversity: Annotated[
        float | None,
        Score(
            label="diversity",
            title="Diversity: one of two wrong / both wrong",
            note="only one of two wrong / both wrong, mean over pairs",
            definition="members' ratio of errors: images that one of two gets wrong over images that both get wrong",
            better=None,
            of="members",
        ),
    ] = None
    disagreement: Annotated[
        float | None,
        Score(
            label="disagreement",
            title="Disagreement of two members",
            note="two members' predictions differ, mean over pairs",
            definition="fraction of images for which two members predict different classes, mean over pairs",
            better=None,
            of="members",
            in_percent=True,
        ),
    ] = None


SCORES: dict[str, Score] = {
    name: row for name, field in Scores.model_fields.items() for row in field.metadata if isinstance(row, Score)
}
"""The rows of `Scores`, by name."""


def ensemble_scores(first: Sequence[str]) -> list[str]:
    """Names of the ensemble's scores that tables show: those that a table wants first, then the others."""
    shown = [name for name, row in SCORES.items() if row.of == "ensemble" and row.label]
    return [*first, *(name for name in shown if name not in first)]
