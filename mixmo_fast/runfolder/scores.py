"""The scores of a test set, a row each: what it means, what it is called, how it is written, which way is better.

A new score is a function in `mixmo_fast.evaluation.metrics` and a row here: files, TensorBoard, the table on the
terminal and the one of a run's page follow. Rates are fractions, NLL in nats.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import ConfigDict

from mixmo_fast.runfolder.record import Record


@dataclass(frozen=True)
class Score:
    """How a score is shown.

    Attributes:
        label: In the table on the terminal; empty: it has no row there.
        note: What sets it apart from others of its name, beside it on the terminal.
        title: In the table of a page; empty: it has no row there.
        better: Which way; None: neither.
        of: Whether it is of the ensemble or of its members.
        in_percent: Whether it is written in percent.
    """

    label: str
    note: str
    title: str
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

    model_config = ConfigDict(use_attribute_docstrings=True)

    top1: Annotated[float | None, Score("top-1", "", "Top-1", "higher", in_percent=True)] = None
    """Fraction of images whose largest logit is the label's; of equal ones the first counts as largest."""
    top5: Annotated[float | None, Score("top-5", "", "Top-5", "higher", in_percent=True)] = None
    """Fraction of images whose label is among the five largest logits, likewise; None when K < 5."""
    nll: Annotated[float | None, Score("NLL", "nats", "NLL, nats", "lower")] = None
    """Mean negative log-likelihood of the ensemble, nats."""
    ece: Annotated[float | None, Score("ECE", "15 equal bins, right-closed", "ECE, 15 equal bins", "lower")] = None
    """Expected calibration error, 15 equal bins, a fraction."""
    brier: Annotated[float | None, Score("Brier", "sum over classes", "Brier, sum over classes", "lower")] = None
    """Mean over images of the sum over classes of (p - one_hot)^2, from 0 to 2."""
    brier_per_class: Annotated[float | None, Score("", "", "", "lower")] = None
    """`brier` / K, which the authors' implementation prints."""
    auc: Annotated[
        float | None, Score("AUC", "confidence against correctness", "AUC of confidence against correctness", "higher")
    ] = None
    """Area under the ROC curve of confidence as a score for being right; None if all or none are."""
    tace: Annotated[
        float | None,
        Score("TACE", "15 equal-mass bins a class, threshold 0.001", "TACE, 15 equal-mass bins a class", "lower"),
    ] = None
    """Thresholded adaptive calibration error, a fraction."""
    member_top1: Annotated[
        tuple[float, ...],
        Score("member {} top-1", "", "Top-1 of member {} alone", "higher", of="members", in_percent=True),
    ] = ()
    """Top-1 of each member alone."""
    member_top1_mean: Annotated[
        float | None, Score("members' mean", "", "", "higher", of="members", in_percent=True)
    ] = None
    """Their mean."""
    diversity: Annotated[
        float | None,
        Score(
            "diversity",
            "only one of two wrong / both wrong, mean over pairs",
            "Diversity: one of two wrong / both wrong",
            None,
            of="members",
        ),
    ] = None
    """Members' ratio of errors: images that one of two gets wrong over images that both get wrong."""
    disagreement: Annotated[
        float | None,
        Score(
            "disagreement",
            "two members' predictions differ, mean over pairs",
            "Disagreement of two members",
            None,
            of="members",
            in_percent=True,
        ),
    ] = None
    """Fraction of images for which two members predict different classes, mean over pairs; None when M = 1."""


def rows_of(record: type[Record]) -> dict[str, Score]:
    """The rows that the fields of a record carry, by name."""
    fields = record.model_fields.items()
    return {name: row for name, field in fields for row in field.metadata if isinstance(row, Score)}


SCORES: dict[str, Score] = rows_of(Scores)
"""The rows of `Scores`, by name."""


def definition(name: str) -> str:
    """What a score means, as a file's `definitions` say it."""
    text = Scores.model_fields[name].description or name
    return text[0].lower() + text[1:].rstrip(".")


def ensemble_scores(first: Sequence[str]) -> list[str]:
    """Names of the ensemble's scores that tables show: those that a table wants first, then the others."""
    shown = [name for name, row in SCORES.items() if row.of == "ensemble" and row.label]
    return [*first, *(name for name in shown if name not in first)]
