"""What was found of several checkpoints of a run: side by side in a table, and the figures of those but the first.

The page is about the first one, `last` where it was evaluated; without others there is nothing here. The table has
what the page's test scores, in which each checkpoint has a column, do not say.
"""

from dataclasses import dataclass, replace

from mixmo_fast.report.drawing import Plot
from mixmo_fast.report.run_files import RunFiles
from mixmo_fast.report.run_plots import pictures_of
from mixmo_fast.report.words import UNKNOWN, decimal, percent
from mixmo_fast.runfolder.evaluated import SavedEvaluation
from mixmo_fast.runfolder.kept import Kept
from mixmo_fast.runfolder.scores import SCORES, Scores

_SHOWN = ("reliability", "confusion", "selective", "robustness", "ood")


@dataclass(frozen=True)
class SideBySide:
    """A table: a column for each checkpoint, a row for each score that one of them has; there may be none."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class OtherCheckpoint:
    """A checkpoint that the page is not about, and the figures of its evaluation."""

    title: str
    plots: tuple[Plot, ...]


def side_by_side(run: RunFiles) -> SideBySide | None:
    """All evaluated checkpoints, the page's own first; None where there is no other."""
    if len(run.evaluations) < 2:
        return None
    found = [_scores(one.record) for one in run.evaluations]
    names = dict.fromkeys(name for one in found for name in one)
    rows = ((name, tuple(one.get(name, UNKNOWN) for one in found)) for name in names)
    return SideBySide(tuple(map(_title, run.evaluations)), tuple(row for row in rows if set(row[1]) != {UNKNOWN}))


def other_checkpoints(run: RunFiles) -> tuple[OtherCheckpoint, ...]:
    """Those evaluated besides the page's own."""
    others = []
    for one in run.evaluations[1:]:
        pictures = pictures_of(replace(run, history=(), evaluations=(one,), inspections=()))
        others.append(OtherCheckpoint(_title(one), tuple(plot for name in _SHOWN for plot in pictures[name])))
    return tuple(others)


def _title(kept: Kept[SavedEvaluation]) -> str:
    """`best, epoch 287`, and how its members were averaged where that is not the paper's way."""
    epoch = "" if kept.record.epoch is None else f", epoch {kept.record.epoch}"
    return f"{kept.checkpoint}{epoch}" + (", probabilities averaged" if kept.record.ensemble == "probabilities" else "")


def _scores(found: SavedEvaluation) -> dict[str, str]:
    """What a table says of an evaluation, by the titles of its rows."""
    scaled = found.temperature_scaling.scores if found.temperature_scaling else Scores()
    said = {
        f"{SCORES[name].title}, scaled": SCORES[name].written(getattr(scaled, name), UNKNOWN) for name in ("nll", "ece")
    }
    if found.selective:
        said["Accuracy on the 90 % most confident"] = percent(found.selective.accuracy_at_90)
    if found.robustness:
        said[f"Mean top-1 under corruptions, {found.robustness.source}"] = percent(found.robustness.mean_top1)
    for foreign in found.ood:
        for detector in foreign.detectors:
            if detector.name == "max_probability":
                said[f"AUROC, {foreign.dataset}, largest probability"] = decimal(detector.auroc)
    return said
