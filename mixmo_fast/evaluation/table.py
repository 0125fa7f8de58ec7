"""Scores as a table for the terminal."""

from rich.table import Table
from rich.text import Text

from mixmo_fast.evaluation.metrics import Ensemble, Scores
from mixmo_fast.evaluation.temperature import TemperatureScaling

_ENSEMBLES = {"logits": "ensemble: mean of the members' logits", "probabilities": "ensemble: mean of probabilities"}
_FITTED_ON = {"test-halves": "fitted on the other half", "train-holdout": "fitted on held-out training images"}


def scores_table(
    scores: Scores, title: str, ensemble: Ensemble = "logits", scaling: TemperatureScaling | None = None
) -> Table:
    """One row a score, with its definition; members' accuracies and diversity where there are several members.

    Args:
        scores: Of the network as it is.
        title: Above the table.
        ensemble: What of the members was averaged.
        scaling: Adds a column with the ensemble's scores after temperature scaling.
    """
    table = Table(title=Text(title), title_justify="left", title_style="bold")
    table.add_column("score")
    table.add_column("value", justify="right")
    if scaling:
        table.add_column("scaled", justify="right")
    table.add_column("definition", style="dim")
    several = len(scores.member_top1) > 1
    after = scaling.scores if scaling else None
    for name, value, scaled, definition in (
        ("top-1", _percent(scores.top1), after and _percent(after.top1), _ENSEMBLES[ensemble] if several else ""),
        ("top-5", _percent(scores.top5), after and _percent(after.top5), ""),
        ("NLL", _number(scores.nll), after and _number(after.nll), "nats"),
        ("ECE", _number(scores.ece), after and _number(after.ece), "15 equal bins, right-closed"),
        (
            "Brier",
            _number(scores.brier),
            after and _number(after.brier),
            f"sum over classes (divided by K: {scores.brier_per_class:.5f})",
        ),
        ("TACE", _number(scores.tace), after and _number(after.tace), "15 equal-mass bins a class, threshold 0.001"),
        ("AUC", _number(scores.auc), after and _number(after.auc), "confidence against correctness"),
    ):
        table.add_row(name, value, *((scaled,) if scaling else ()), definition)
    if scaling:
        temperatures = "\n".join(f"{one:.4f}" for one in scaling.temperatures)
        bound = ", at the bound of what is allowed" if scaling.at_bound else ""
        table.add_row("temperature", "1", temperatures, _FITTED_ON[scaling.calibrated_on] + bound)
    if several:
        unscaled = ("",) if scaling else ()  # a temperature is the ensemble's and changes no prediction
        table.add_section()
        for member, accuracy in enumerate(scores.member_top1):
            table.add_row(f"member {member} top-1", _percent(accuracy), *unscaled, "")
        table.add_row("members' mean", _percent(scores.member_top1_mean), *unscaled, "")
        ratio = "only one of two wrong / both wrong, mean over pairs"
        if scores.diversity is None:
            pair = "both members" if len(scores.member_top1) == 2 else "some two members"
            ratio = f"undefined: no image that {pair} get wrong"
        table.add_row("diversity", _number(scores.diversity), *unscaled, ratio)
        disagreement = "two members' predictions differ, mean over pairs"
        table.add_row("disagreement", _percent(scores.disagreement), *unscaled, disagreement)
    return table


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
