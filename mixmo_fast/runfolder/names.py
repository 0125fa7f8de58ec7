"""The files of a run folder, each named here and nowhere else, and what their being there says.

Light: whoever only looks whether there is a run imports nothing else.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mixmo_fast.errors import ConfigError, MixmoError, shorten

CONFIG = "config.yaml"  # as it was resolved: the file, its defaults and the overrides
ENVIRONMENT = "environment.json"
METRICS = "metrics.jsonl"  # an object a line and epoch
METRICS_TABLE = "metrics.csv"  # the same as a table
SUMMARY = "summary.json"  # written last: it says that the run has ended
EVALUATIONS = "evaluations"  # a folder for each checkpoint, by its name: what was found of it, and the pictures of that
EVALUATION = "evaluation.json"
INSPECTION = "inspection.json"
PAGE = "report.html"  # of a run, and in the folder of many of a comparison
FIRST_BATCH = "first_batch.png"
LEARNING_CURVES = "learning_curves.png"
TENSORBOARD = "tensorboard"  # by epoch
TENSORBOARD_STEPS = f"{TENSORBOARD}/by_step"
CHECKPOINTS = "checkpoints"
PROFILE = "profile.txt"  # of `train --profile`: the dearest kernels
PROFILE_TRACE = "profile_trace.json.gz"  # for ui.perfetto.dev or chrome://tracing
LOG = "log.txt"  # what a reproduction's processes printed, one after the other
SHARED_GPU = "shared_gpu.txt"  # one line, where other runs were trained on the same GPU at the same time
PLAN = "plan.json"  # of a reproduction, three folders above its runs
FAILED = "failed.txt"  # one line, why the run ended in a way that trying again cannot mend

BESIDE_CONFIG = (ENVIRONMENT, METRICS, SUMMARY)  # one of them makes it a run folder
_LONGEST = 200  # bytes of a run's name; file systems allow 255, some of which temporary names need
_WRITTEN_ANEW = (
    *(CONFIG, ENVIRONMENT, METRICS, METRICS_TABLE, SUMMARY),
    *(EVALUATION, INSPECTION, PAGE, FIRST_BATCH, LEARNING_CURVES),
)
_LEFT_BY_A_RUN = (
    *(f"{CHECKPOINTS}/*.pt", f"{TENSORBOARD}/events.*", f"{TENSORBOARD_STEPS}/events.*", "metrics.*", "*.png"),
    *(f"{EVALUATIONS}/*/{name}" for name in (EVALUATION, INSPECTION, "*.png")),
    *(SUMMARY, EVALUATION, INSPECTION, PAGE, PROFILE, PROFILE_TRACE, SHARED_GPU),
)


@dataclass(frozen=True)
class CheckpointPaths:
    """Where a run folder keeps its checkpoints."""

    folder: Path

    @property
    def last(self) -> Path:
        """Of the latest epoch."""
        return self.folder / CHECKPOINTS / "last.pt"

    @property
    def best(self) -> Path:
        """Of the epoch with the best test top-1 so far."""
        return self.folder / CHECKPOINTS / "best.pt"

    def epoch(self, epoch: int) -> Path:
        """Of one of the epochs that are kept."""
        return self.folder / CHECKPOINTS / f"epoch_{epoch:04d}.pt"

    def all(self) -> list[Path]:
        """All that are there, by name."""
        return sorted((self.folder / CHECKPOINTS).glob("[!.]*.pt"))


def run_name(name: str) -> str:
    """A name for a run, which its folder can have.

    Raises:
        ConfigError: It cannot, or would be taken for an option or for something hidden.
    """
    fits = bool(name) and name.isprintable() and len(name.encode()) <= _LONGEST
    if fits and name == Path(name).name.strip(" ") and not name.startswith((".", "-")):
        return name
    raise ConfigError(
        f"name: found {shorten(repr(name))}, allowed: that of a folder, of at most {_LONGEST} bytes, without / and "
        "without a dot or hyphen in front"
    )


def is_run_folder(folder: Path) -> bool:
    """Whether a run was started in a folder."""
    return (folder / CONFIG).is_file() and any((folder / name).is_file() for name in BESIDE_CONFIG)


def run_meant(config: Path) -> Path | None:
    """The run folder that stands where a configuration is expected, or whose own `config.yaml` does; None: neither."""
    folder = config.parent if config.name == CONFIG else config
    if not is_run_folder(folder):
        return None
    return folder.resolve() if folder.name in ("", "..") else folder  # its lock and its run have a name


def config_meant(config: Path) -> Path:
    """The file of a configuration, which a run folder may stand for."""
    return config / CONFIG if config.is_dir() and run_meant(config) else config


def name_of_run(config: Path) -> str:
    """That of a configuration's run: of the run folder that is meant, or else of the file."""
    folder = run_meant(config)
    return folder.name if folder else config.stem


def has_begun(folder: Path) -> bool:
    """Whether anything of a run is there yet; a log alone is of a process that still loads torch, or did no more."""
    return any((folder / name).exists() for name in (CONFIG, METRICS, CHECKPOINTS))


def has_ended(folder: Path) -> bool:
    """Whether a run wrote its summary."""
    return (folder / SUMMARY).is_file()


def evaluation_folders(folder: Path) -> list[Path]:
    """Those of the checkpoints of a run that something was found of: `last` and `best`, then others by name."""
    below = folder / EVALUATIONS
    found = [path for path in below.iterdir() if path.is_dir()] if below.is_dir() else []
    return sorted(found, key=lambda path: (path.name != "last", path.name != "best", path.name))


def clear_pipes(folder: Path) -> None:
    """Removes pipes and devices, and links to such, that stand where a run's files go: writing to one may never end.

    Raises:
        MixmoError: It cannot.
    """
    each = (place / name for place in evaluation_folders(folder) for name in (EVALUATION, INSPECTION))
    for path in (*(folder / name for name in _WRITTEN_ANEW), *each):
        if path.exists() and not path.is_file() and not path.is_dir():
            try:
                path.unlink()
            except OSError as error:
                raise MixmoError(f"{path}: cannot remove what is no regular file: {error.strerror}") from error


def remove_run(folder: Path) -> None:
    """Removes what an earlier run left in a folder, and only that.

    Raises:
        MixmoError: One of its folders is a link, which may lead to anybody's files.
        OSError: It cannot.
    """
    each = evaluation_folders(folder)
    for path in (*(folder / name for name in (CHECKPOINTS, TENSORBOARD, TENSORBOARD_STEPS, EVALUATIONS)), *each):
        if path.is_symlink():
            raise MixmoError(f"{path}: is a link, which nothing is removed through; remove it first")
    for pattern in _LEFT_BY_A_RUN:
        for path in folder.glob(pattern):
            path.unlink()
    for path in each:
        with suppress(OSError):  # somebody keeps something else in it
            path.rmdir()
