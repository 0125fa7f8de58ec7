"""`results.json`: what the runs of many configurations reached, beside what was published of them.

Accuracies and rates are fractions here, published ones included; NLL in nats. "Best on test" is the test score of
the epoch with the best test top-1, which is how the paper counts; it flatters, so that of the last epoch is beside it.
Only complete runs count for a configuration's numbers; the others are listed with how far they are.

Shapes: n complete seeds of a configuration.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from mixmo_fast.errors import printable
from mixmo_fast.report.words import counted
from mixmo_fast.runfolder.record import Record
from mixmo_fast.runfolder.records import Epoch
from mixmo_fast.runfolder.scores import definition

SINGLE_NETWORK = "Single network"
"""What a network without subnetworks is called."""

_STATUS_ORDER = ("running", "stopped", "waiting", "failed")


class Statistic(Record):
    """Of the values of n seeds.

    Attributes:
        mean: Their mean.
        std: Their sample standard deviation, n - 1 in the denominator; None for a single one.
        n: How many they are.
    """

    mean: float
    std: float | None
    n: int


class SeedResult(Record):
    """One run.

    Attributes:
        seed: Its seed.
        folder: Its run folder, relative to `results.json`.
        status: As `mixmo-fast status` says it.
        epoch: Epochs that are over.
        best_on_test: Top-1 of the best epoch so far.
        best_epoch: That epoch.
        last: Top-1 of the last evaluated epoch.
        nll: Of the same.
        ece: Of the same.
        member_top1_mean: Of the same, of the members alone.
        diversity: Of the same, the members' ratio of errors.
        rows_per_second: Of training; median over the epochs.
        train_seconds: Of training, evaluation excluded.
        test_images: Of the test set; None where neither the run nor the catalogue of data sets says it.
        ranks: GPUs, or processes on a CPU.
        device: Its name.
        started_from: The file whose weights it began with, by name and the beginning of its checksum; None: fresh ones.
        error: Why it failed.
        history: Its epochs, for curves; they stay in the run folder and are not repeated in the file.
    """

    seed: int
    folder: str
    status: Literal["complete", "running", "stopped", "waiting", "failed"]
    epoch: int
    best_on_test: float | None = None
    best_epoch: int | None = None
    last: float | None = None
    nll: float | None = None
    ece: float | None = None
    member_top1_mean: float | None = None
    diversity: float | None = None
    rows_per_second: float | None = None
    train_seconds: float | None = None
    test_images: int | None = None
    ranks: int = 1
    device: str | None = None
    started_from: str | None = None
    error: str | None = None
    history: tuple[Epoch, ...] = Field(default=(), exclude=True, repr=False)

    @property
    def device_seconds(self) -> float | None:
        """Training time times the number of GPUs or processes."""
        return None if self.train_seconds is None else self.train_seconds * self.ranks


class ConfigurationResult(Record):
    """All runs of one configuration.

    Attributes:
        name: The configuration's.
        table: Title of the table it belongs to.
        method: Its subnetwork method in the paper's words; None for a single network.
        msda: Its mixed sample data augmentation, `Mixup` or `CutMix`; None for none.
        width: Of a network whose table is over several widths.
        members: M.
        epochs: E that were trained or planned.
        full_epochs: E of the whole schedule.
        changed: What else differs from the configuration of that name, `network.width: 10 -> 1` each.
        published: Lowest and highest published top-1; the same twice for one figure; None for none.
        best_on_test: Top-1 as the paper counts it.
        last: Top-1 after the last epoch.
        nll: After the last epoch.
        ece: After the last epoch.
        diversity: After the last epoch.
        difference: Mean best-on-test, rounded as published, minus the nearest end of the published range; 0 within it.
        rows_per_second: Median over the seeds.
        device_hours: Mean over the seeds.
        flop: Of one whole training; None where it is unknown.
        devices: Names of the devices, each once.
        seeds: All runs, complete or not.
    """

    name: str
    table: str
    method: str | None
    msda: str | None
    width: int | None
    members: int
    epochs: int
    full_epochs: int
    changed: tuple[str, ...] = ()
    published: tuple[float, float] | None = None
    best_on_test: Statistic | None = None
    last: Statistic | None = None
    nll: Statistic | None = None
    ece: Statistic | None = None
    diversity: Statistic | None = None
    difference: float | None = None
    rows_per_second: float | None = None
    device_hours: float | None = None
    flop: float | None = None
    devices: tuple[str, ...] = ()
    seeds: tuple[SeedResult, ...]

    @property
    def complete(self) -> tuple[SeedResult, ...]:
        """The runs that count."""
        return tuple(seed for seed in self.seeds if seed.status == "complete")

    @property
    def is_faithful(self) -> bool:
        """Whether its whole schedule was planned, with no other setting than its name says."""
        return self.epochs == self.full_epochs and not self.changed

    @property
    def is_shortened(self) -> bool:
        """Whether a part of its schedule was planned."""
        return self.epochs < self.full_epochs

    @property
    def method_label(self) -> str:
        """The method and its augmentation: `Cut-MixMo + CutMix`, `Single network`."""
        return " + ".join(part for part in (self.method or SINGLE_NETWORK, self.msda) if part)

    @property
    def label(self) -> str:
        """The method in a few words: `Cut-MixMo + CutMix`, `Single network, width 2`."""
        return self.method_label if self.width is None else f"{self.method_label}, width {self.width}"

    @property
    def device_seconds(self) -> float | None:
        """Training time of a run times GPUs or processes, the mean over the complete seeds."""
        return None if self.device_hours is None else 3600 * self.device_hours

    @property
    def test_images(self) -> int | None:
        """Of the test set; None where no run says it, or runs differ."""
        known = {seed.test_images for seed in self.seeds if seed.test_images is not None}
        return known.pop() if len(known) == 1 else None

    @property
    def marks(self) -> tuple[str, ...]:
        """What keeps its numbers from being the paper's experiment, or from being final; nothing where nothing does."""
        marks = []
        if self.epochs != self.full_epochs:
            marks.append(f"{self.epochs} of {self.full_epochs} epochs")
        marks += [f"other settings: {printable(one)}" for one in self.changed]
        if len(self.complete) < len(self.seeds):
            marks.append(f"{len(self.complete)} of {len(self.seeds)} seeds")
            found = [seed.status for seed in self.seeds]
            marks += [f"{found.count(status)} {status}" for status in _STATUS_ORDER if status in found]
        return tuple(marks)


class Results(Record):
    """`results.json`.

    Attributes:
        configurations: In the order of the tables, and of the paper's rows within each.
        left_out: Run folders that do not count, and why, a line each.
        definitions: What the words mean.
    """

    configurations: tuple[ConfigurationResult, ...]
    left_out: tuple[str, ...] = ()
    definitions: dict[str, str]

    @property
    def tables(self) -> tuple[tuple[str, tuple[ConfigurationResult, ...]], ...]:
        """Title and rows of each table."""
        titles = dict.fromkeys(one.table for one in self.configurations)
        return tuple((title, tuple(one for one in self.configurations if one.table == title)) for title in titles)

    @property
    def runs(self) -> tuple[SeedResult, ...]:
        """All runs of all configurations."""
        return tuple(seed for one in self.configurations for seed in one.seeds)

    @property
    def complete(self) -> tuple[SeedResult, ...]:
        """The runs that count."""
        return tuple(run for run in self.runs if run.status == "complete")

    @property
    def comparable(self) -> tuple[ConfigurationResult, ...]:
        """The configurations that say how near they came to the published: at full length, with a published figure."""
        return tuple(one for one in self.configurations if one.difference is not None and one.is_faithful)

    @property
    def is_on_gpus(self) -> bool:
        """Whether time is of GPUs: no run was on a CPU."""
        devices = [device for one in self.configurations for device in one.devices]
        return bool(devices) and not any(device.startswith("cpu") for device in devices)


def labels_of(rows: Sequence[ConfigurationResult]) -> list[str]:
    """A name for each row that is no other row's: its method, else its configuration's name, else that with marks."""
    found = [row.label for row in rows]
    for other in (lambda row: row.name, lambda row: f"{row.name} ({'; '.join(row.marks) or 'whole'})"):
        found = [other(row) if found.count(label) > 1 else label for row, label in zip(rows, found, strict=True)]
    return found


def differ_in_epochs(rows: Sequence[ConfigurationResult]) -> bool:
    """Whether the rows of a table were planned with different numbers of epochs, which each then has to say."""
    return len({row.epochs for row in rows}) > 1


def figure_labels(rows: Sequence[ConfigurationResult]) -> list[str]:
    """The names of `labels_of`, with the epochs of each where they differ: a figure has no column for them."""
    names = labels_of(rows)
    if not differ_in_epochs(rows):
        return names
    return [f"{name}, {counted(row.epochs, 'epoch')}" for row, name in zip(rows, names, strict=True)]


def images_of(rows: Sequence[ConfigurationResult]) -> int | None:
    """Of the test set that all rows share; None where they do not, or it is unknown."""
    known = {row.test_images for row in rows}
    return known.pop() if len(known) == 1 else None


DEFINITIONS = {
    "best_on_test": "test top-1 of the epoch with the best test top-1, which is how the paper counts; it flatters",
    "last": "test top-1 after the last epoch; nll, ece and diversity are of the same epoch",
    "mean, std": "over the n complete seeds; the sample standard deviation, n - 1 in the denominator",
    "difference": "mean best_on_test, rounded to 0.0001 as published, minus the nearest end of the range; 0 within it",
    "nll": definition("nll"),
    "ece": definition("ece"),
    "diversity": f"{definition('diversity')}; null where there is none of the latter, and the mean is over the "
    "other seeds",
    "rows_per_second": "network input rows per second of training, evaluation excluded; median over epochs and seeds; "
    "of a share of the GPU where the run folder has a shared_gpu.txt",
    "device_hours": "training time times GPUs (processes on a CPU), evaluation excluded; mean over the complete seeds",
    "flop": "floating-point operations of one whole training: rows x multiply-accumulates of a forward pass x 6",
}
"""What the keys of `results.json` mean, and the columns of the tables."""
