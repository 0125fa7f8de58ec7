"""Scores as a table for the terminal."""

from rich.text import Text

from mixmo_fast.evaluation.metrics import Ensemble, Scores
from mixmo_fast.evaluation.temperature import TemperatureScaling
from mixmo_fast.runfolder.scores import SCORES, ensemble_scores
from mixmo_fast.tables import Cell, Column, Sheet

_ENSEMBLES = {"logits": "ensemble: mean of the members' logits", "probabilities": "ensemble: mean of probabilities"}
_FITTED_ON = {"test-halves": "fitted on the other half", "train-holdout": "fitted on held-out training images"}


def scores_table(
    scores: Scores, title: str, ensemble: Ensemble = "logits", scaling: TemperatureScaling | None = None
) -> Sheet:
    """One row a score, with its definition; members' accuracies and diversity where there are several members.

    Args:
        scores: Of the network as it is.
        title: Above the table.
        ensemble: What of the members was averaged.
        scaling: Adds a column with the ensemble's scores after temperature scaling.
    """
    values = ("value", "scaled") if scaling else ("value",)
    columns = (Column("score", "word"), *map(Column, values), Column("definition", "prose", rank=1))
    several = len(scores.member_top1) > 1
    notes = {name: row.note for name, row in SCORES.items()}
    notes["top1"] = _ENSEMBLES[ensemble] if several else ""
    notes["brier"] += f" (divided by K: {scores.brier_per_class:.5f})"
    sources = [scores, *([scaling.scores] if scaling else [])]
    rows: list[tuple[Cell, ...]] = []
    for name in ensemble_scores(("top1", "top5", "nll", "ece", "brier", "tace")):
        row = SCORES[name]
        rows.append((row.label, *(row.written(getattr(one, name)) for one in sources), _dim(notes[name])))
    if scaling:
        temperatures = "\n".join(f"{one:.4f}" for one in scaling.temperatures)
        bound = ", at the bound of what is allowed" if scaling.at_bound else ""
        rows.append(("temperature", "1", temperatures, _dim(_FITTED_ON[scaling.calibrated_on] + bound)))
    if not several:
        return Sheet(columns, tuple(rows), title)
    of_ensemble = len(rows)
    unscaled = ("",) if scaling else ()  # a temperature is the ensemble's and changes no prediction
    alone = SCORES["member_top1"]
    for member, accuracy in enumerate(scores.member_top1):
        rows.append((alone.label.format(member), alone.written(accuracy), *unscaled, _dim(alone.note)))
    if scores.diversity is None:
        pair = "both members" if len(scores.member_top1) == 2 else "some two members"
        notes["diversity"] = f"undefined: no image that {pair} get wrong"
    for name, row in SCORES.items():
        if row.of == "members" and name != "member_top1":
            rows.append((row.label, row.written(getattr(scores, name)), *unscaled, _dim(notes[name])))
    return Sheet(columns, tuple(rows), title, rules=frozenset({of_ensemble - 1}))


def _dim(text: str) -> Text:
    return Text(text, style="dim")
