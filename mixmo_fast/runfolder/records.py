"""What training writes about a run and everything else reads: its epochs, its summary, the machine it is on.

Rates and shares are fractions, NLL in nats; None is what is undefined, or missing in a file of an older version.
"""

from typing import Any

from pydantic import Field

from mixmo_fast.runfolder.record import Record
from mixmo_fast.runfolder.scores import Scores
from mixmo_fast.runfolder.trained_on import TrainedOn


class TrainedEpoch(Record):
    """What training says of an epoch.

    Attributes:
        epoch: From 1.
        learning_rate: Of its last step.
        train_loss: Mean over its rows of the members' losses, summed, in nats.
        train_top1: Share of its rows and members whose strongest class is the image's, mixed images included.
        train_seconds: Evaluation excluded.
        rows_per_second: Network input rows, evaluation excluded.
    """

    epoch: int
    learning_rate: float | None = None
    train_loss: float | None = None
    train_top1: float | None = None
    train_seconds: float | None = None
    rows_per_second: float | None = None


class PeakMemory(Record):
    """The most memory at a time, up to the epoch that it stands beside, since the process began.

    A GPU's and a process's are not to be compared: the one is the network's training alone, the other has the program
    and its libraries in it, too, and a data set that lies in memory.

    Attributes:
        gpu_peak_allocated_bytes: On the GPU, in tensors; None on a CPU.
        gpu_peak_reserved_bytes: On the GPU, what torch took for them; None on a CPU.
        process_peak_resident_bytes: Of the process in the machine's memory; None on a GPU.
    """

    gpu_peak_allocated_bytes: int | None = None
    gpu_peak_reserved_bytes: int | None = None
    process_peak_resident_bytes: int | None = None

    def in_words(self) -> str:
        """`GPU memory 1.4 GB` or `process memory 0.6 GB` (10**9 bytes); empty where it is unknown."""
        amount, of = self.in_gigabytes(), "process" if self.gpu_peak_allocated_bytes is None else "GPU"
        return amount and f"{of} memory {amount}"

    def in_gigabytes(self) -> str:
        """The GPU's, or else the process's, as `1.4 GB`; empty where it is unknown."""
        gpu = self.gpu_peak_allocated_bytes
        found = self.process_peak_resident_bytes if gpu is None else gpu
        return "" if found is None else f"{found / 1e9:.1f} GB"


class Epoch(Scores, PeakMemory, TrainedEpoch):
    """A line of `metrics.jsonl`: what training says, and then the scores, without which it was not evaluated."""

    test_seconds: float | None = None

    def evaluated(self, scores: Scores, seconds: float) -> "Epoch":
        """The same with the scores after it, which took so many seconds."""
        return self.model_copy(update=dict(scores) | {"test_seconds": seconds})


class BestScores(Scores):
    """Scores of the epoch with the best test top-1."""

    epoch: int | None = None


class RunSummary(Record):
    """`summary.json`."""

    dataset: str | None = None
    data: TrainedOn | None = None
    config: str | None = None
    seed: int | None = None
    epochs: int | None = None
    device: str | None = None
    pipeline: str | None = None
    precision: str | None = None
    last: Scores | None = None
    best_on_test: BestScores | None = None
    rows_per_second: float | None = None
    images_per_second: float | None = None
    train_seconds: float | None = None
    peak_memory: PeakMemory | None = None
    definitions: dict[str, str] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)


class StartedFrom(Record):
    """The file whose weights, and momentum if so, a run began with; see `mixmo_fast.training.start`."""

    path: str
    sha256: str
    optimizer: bool = False


class Environment(Record):
    """`environment.json`."""

    versions: dict[str, str] = Field(default_factory=dict)
    platform: str | None = None
    device: str | None = None
    cpu_capability: str | None = None
    cuda: str | None = None
    threads: int | None = None
    command: tuple[str, ...] = ()
    ranks: int | None = None
    step: dict[str, Any] = Field(default_factory=dict)
    init: StartedFrom | None = None
