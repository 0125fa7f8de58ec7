"""How a network does on corrupted images: by corruption and severity, on all of them together, and against another run.

The grid of corruptions and severities is that of arXiv 1903.12261 (Hendrycks and Dietterich). Its own summary is the
mean corruption error, which sets each corruption's errors in relation to another network's, since corruptions differ in
difficulty; MixMo's authors score all corrupted images as one set instead, here called `pooled`.

Shapes: R corruptions, T severities, S samples of a set, M members, K classes. Rates are fractions.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from pydantic import ValidationError, model_validator
from rich.text import Text
from torch import Tensor

from mixmo_fast.batch import EvaluationBatches
from mixmo_fast.errors import MixmoError
from mixmo_fast.evaluation.metrics import Ensemble, Scores, ensemble_logits, evaluate_logits
from mixmo_fast.files import open_regular
from mixmo_fast.runfolder.evaluated import SavedRobustness
from mixmo_fast.runfolder.names import EVALUATION, evaluation_folders
from mixmo_fast.runfolder.record import Record
from mixmo_fast.runfolder.scores import SCORES
from mixmo_fast.tables import Cell, Column, Sheet


@dataclass(frozen=True)
class CorruptedSet:
    """A test split under one corruption.

    Attributes:
        corruption: Its name.
        severity: Its strength, 1 being the weakest.
        batches: The images and labels.
    """

    corruption: str
    severity: int
    batches: EvaluationBatches


class Robustness(SavedRobustness):
    """What `evaluate_robustness` found, complete, as a mean corruption error needs it.

    Attributes:
        source: Where the corrupted images are from, `CIFAR-100-C` say, or `synthetic`.
        corruptions: R names.
        severities: T of them, ascending.
        top1: R x T, the ensemble's.
        benchmark: The corruptions that `mean_top1` and the mean corruption error are taken over.
        pooled: The scores of all images of all corruptions and severities as one set.
        mean_top1: Mean of `top1` over the benchmark's corruptions and all severities.
        mce: Mean corruption error; see `mean_corruption_error`. None where there is no other run to compare with.
        mce_against: The other run's name.

    Raises:
        ValueError: When `top1` is not R x T fractions, or the benchmark has none of the corruptions or others.
    """

    benchmark: tuple[str, ...]
    pooled: Scores
    mean_top1: float

    @model_validator(mode="after")
    def _is_a_table(self) -> "Robustness":
        widths = [len(row) for row in self.top1]
        if widths != [len(self.severities)] * len(self.corruptions):
            raise ValueError(f"top1 must be {len(self.corruptions)} x {len(self.severities)} numbers, found {widths}")
        if not all(0 <= top1 <= 1 for row in self.top1 for top1 in row):
            raise ValueError("top1 must be fractions")
        if not self.benchmark or not set(self.benchmark) <= set(self.corruptions):
            raise ValueError(f"the benchmark must be some of {self.corruptions}, found {self.benchmark}")
        return self

    def errors(self, corruption: str) -> float:
        """Sum over severities of 1 - top-1."""
        return sum(1 - top1 for top1 in self.top1[self.corruptions.index(corruption)])


def evaluate_robustness(
    predict: Callable[[EvaluationBatches], tuple[Tensor, Tensor]],
    sets: Iterable[CorruptedSet],
    source: str,
    benchmark: Sequence[str],
    ensemble: Ensemble = "logits",
    progress: Callable[[str, int, float], None] | None = None,
) -> Robustness:
    """Scores a network on corrupted test splits.

    All logits are kept until the end, in the type and on the device that `predict` gives them: for the 950,000 images
    of CIFAR-100-C, two members and float32, 0.8 GB, and some 10 GB while they are scored together in float64.

    Args:
        predict: Gives logits (S, M, K), floating, and labels int64 (S,) of a set.
        sets: Every corruption in every severity, in any order, each asked for when the one before has been predicted.
        source: Where they are from.
        benchmark: The corruptions to average over; the others count in `pooled` alone.
        ensemble: What of the members is averaged; see `ensemble_logits`.
        progress: Told of each set that is done: corruption, severity, top-1.

    Raises:
        ValueError: When there is no set, one is there twice, one is missing, or the benchmark has other corruptions.
    """
    top1: dict[tuple[str, int], float] = {}
    kept_logits, kept_labels = [], []
    for corrupted in sets:
        place = corrupted.corruption, corrupted.severity
        if place in top1:
            raise ValueError(f"{corrupted.corruption} of severity {corrupted.severity} is there twice")
        logits, labels = predict(corrupted.batches)
        prediction = ensemble_logits(logits, ensemble).argmax(dim=1)
        top1[place] = (prediction == labels).double().mean().item()
        kept_logits.append(logits)
        kept_labels.append(labels)
        if progress is not None:
            progress(*place, top1[place])
    corruptions = tuple(dict.fromkeys(corruption for corruption, _ in top1))
    severities = tuple(sorted({severity for _, severity in top1}))
    missing = [(name, level) for name in corruptions for level in severities if (name, level) not in top1]
    absent = [name for name in benchmark if name not in corruptions]
    if not top1 or missing or absent or not benchmark:
        raise ValueError(f"every corruption of the benchmark needs every severity, missing: {missing or absent}")
    logits, labels = torch.cat(kept_logits), torch.cat(kept_labels)
    kept_logits.clear()  # before scoring, which needs the memory
    return Robustness(
        source=source,
        corruptions=corruptions,
        severities=severities,
        top1=tuple(tuple(top1[name, level] for level in severities) for name in corruptions),
        benchmark=tuple(benchmark),
        pooled=evaluate_logits(logits, labels, ensemble=ensemble),
        mean_top1=fmean(top1[name, level] for name in benchmark for level in severities),
        mce=None,
        mce_against=None,
    )


def mean_corruption_error(robustness: Robustness, against: Robustness) -> float:
    """The mean corruption error, mCE, of one run against another: arXiv 1903.12261, section 4.

    For each corruption of the benchmark, the sum over severities of the one run's errors is divided by that of the
    other's; the mean of these ratios is returned. In the paper the other one is AlexNet, and what it calls 100 % is 1.

    Returns:
        A ratio: below 1 where the first run is the more robust one.

    Raises:
        MixmoError: When the two were not measured on the same corruptions of the same source, or the other one makes
            no error under some corruption, so that there is no ratio.
    """
    for what, ours, theirs in (
        ("source", robustness.source, against.source),
        ("corruptions", sorted(robustness.corruptions), sorted(against.corruptions)),
        ("benchmark", sorted(robustness.benchmark), sorted(against.benchmark)),
        ("severities", list(robustness.severities), list(against.severities)),
    ):
        if ours != theirs:
            raise MixmoError(f"mean corruption error: the two runs differ in {what}: {ours} against {theirs}")
    ratios = []
    for name in robustness.benchmark:
        reference = against.errors(name)
        if reference == 0:
            raise MixmoError(f"mean corruption error: the run to compare with makes no error under {name}")
        ratios.append(robustness.errors(name) / reference)
    return fmean(ratios)


class _EvaluationFile(Record):
    """What is read of `evaluation.json`."""

    dataset: str
    robustness: Robustness | None = None


def read_robustness(path: Path, dataset: str | None = None) -> Robustness:
    """The robustness that an evaluation has written.

    Args:
        path: An `evaluation.json`, or a run folder, of which `last` counts first, then `best`, then others.
        dataset: What it must have been measured on, if that matters.

    Raises:
        MixmoError: It cannot be read, is not such a file, has no robustness, or is of another data set.
    """
    files = [path]
    if path.is_dir():
        places = (*evaluation_folders(path), path)
        files = [file for place in places if (file := place / EVALUATION).is_file()] or [path / EVALUATION]
    read = [(file, _read_evaluation(file)) for file in files]
    file, evaluation = next((one for one in read if one[1].robustness), read[0])
    if evaluation.robustness is None:
        raise MixmoError(f"{file}: was evaluated without corrupted images, so it has no robustness")
    if dataset is not None and evaluation.dataset != dataset:
        raise MixmoError(f"{file}: is of {evaluation.dataset}, not of {dataset}")
    return evaluation.robustness


def _read_evaluation(file: Path) -> _EvaluationFile:
    try:
        with open_regular(file) as content:
            return _EvaluationFile.model_validate_json(content.read(), strict=True)
    except OSError as error:
        raise MixmoError(f"{file}: cannot be read ({error.strerror}); `mixmo-fast evaluate` writes it") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise MixmoError(f"{file}: {key}: {' '.join(first['msg'].split())}") from error


def robustness_table(robustness: Robustness) -> Sheet:
    """One row a corruption, one column a severity, in percent; below, the means and the mean corruption error."""
    least = len(robustness.severities)
    severities = [Column(str(one), rank=least - place) for place, one in enumerate(robustness.severities)]
    named = dict(zip(robustness.corruptions, robustness.top1, strict=True))
    rows = [_row(name, named[name]) for name in robustness.benchmark]
    by_severity = zip(*(named[name] for name in robustness.benchmark), strict=True)
    rows.append(_row(f"mean of {len(rows)}", [fmean(column) for column in by_severity], style="bold"))
    rules = frozenset({len(rows) - 2, len(rows) - 1})
    rows += [_row(name, named[name], "dim") for name in robustness.corruptions if name not in robustness.benchmark]
    pooled = robustness.pooled
    top1 = SCORES["top1"].written(pooled.top1)
    notes = [f"all images as one set: top-1 {top1}, NLL {pooled.nll:.4f}, ECE {pooled.ece:.4f}"]
    if robustness.mce is not None:
        notes.append(f"mean corruption error {100 * robustness.mce:.1f} %, where {robustness.mce_against} has 100 %")
    columns = (Column("corruption", "word"), *severities, Column("mean"))
    return Sheet(columns, tuple(rows), f"Top-1 on {robustness.source}, %", tuple(notes), rules)


def _row(name: str, top1: Sequence[float], style: str = "") -> tuple[Cell, ...]:
    words = (name, *(f"{100 * value:.2f}" for value in top1), f"{100 * fmean(top1):.2f}")
    return tuple(Text(word, style=style) for word in words)
