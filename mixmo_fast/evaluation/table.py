"""Scores as a table for the terminal."""

from rich.table import Table
from rich.text import Text

from mixmo_fast.evaluation.metrics import Scores


def scores_table(scores: Scores, title: str) -> Table:
    """One row a score, with its definition; members' accuracies where there are several."""
    table = Table(title=Text(title), title_justify="left", title_style="bold")
    table.add_column("score")
    table.add_column("value", justify="right")
    table.add_column("definition", style="dim")
    for name, value, definition in (
        ("top-1", _percent(scores.top1), "ensemble: mean of the members' logits"),
        ("top-5", _percent(scores.top5), ""),
        ("NLL", f"{scores.nll:.4f}", "nats"),
        ("ECE", f"{scores.ece:.4f}", "15 equal bins, right-closed"),
        ("Brier", f"{scores.brier:.4f}", f"sum over classes (divided by K: {scores.brier_per_class:.5f})"),
        ("TACE", f"{scores.tace:.4f}", "15 equal-mass bins a class, threshold 0.001"),
        ("AUC", "-" if scores.auc is None else f"{scores.auc:.4f}", "confidence against correctness"),
    ):
        table.add_row(name, value, definition)
    if len(scores.member_top1) > 1:
        table.add_section()
        for member, accuracy in enumerate(scores.member_top1):
            table.add_row(f"member {member} top-1", _percent(accuracy), "")
        table.add_row("members' mean", _percent(scores.member_top1_mean), "")
        diversity = "-" if scores.diversity is None else f"{scores.diversity:.4f}"
        table.add_row("diversity", diversity, "only one of two wrong / both wrong, mean over pairs")
    return table


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"
