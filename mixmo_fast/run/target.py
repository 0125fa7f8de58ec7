"""What a command's target stands for, and which of the checkpoints that it has is meant."""

import codecs
import os
import shlex
from difflib import get_close_matches
from pathlib import Path

from mixmo_fast.config.safe_yaml import MAX_BYTES
from mixmo_fast.errors import CheckpointError, ConfigError
from mixmo_fast.files import open_regular
from mixmo_fast.runfolder.names import CONFIG, CheckpointPaths, is_run_folder, run_meant
from mixmo_fast.training.checkpoint import load_checkpoint

_OF_WEIGHTS = (".pt", ".pth", ".ckpt", ".safetensors")
_DIGITS = 10  # of an epoch's number
_RUNS_NAMED = 5  # at most, by a message
_NEAR = 0.7  # of 1, how alike a name is that may have been meant
_ALLOWED = "allowed: a run folder, a checkpoint, or a configuration file whose run is in --runs"


def is_checkpoint(path: Path) -> bool:
    """Whether a file is one of torch's, of which an older form is a bare pickle, rather than a configuration's text."""
    try:
        with open_regular(path) as file:
            return file.read(4).startswith((b"PK\x03\x04", b"\x80"))
    except OSError:
        return False


def run_of(target: Path, runs: Path) -> CheckpointPaths:
    """The run folder that is meant: `target` itself, in `runs` the one of that file, or where that checkpoint lies.

    Raises:
        ConfigError: For what is neither.
    """
    if not os.path.lexists(target):
        others = _runs_in(runs, target.parent)
        near = get_close_matches(target.name, [folder.name for folder in others], 1, cutoff=_NEAR)
        meant = next((f"; did you mean {folder}?" for folder in others if folder.name in near), "")
        raise ConfigError(f"{target}: not there; {_ALLOWED}{meant}")
    if target.is_dir() and not (target / CONFIG).is_file():
        raise ConfigError(f"{target}: not a run folder (it has no {CONFIG})")
    if is_checkpoint(target):
        return CheckpointPaths(target.parent.parent)
    if target.suffix in _OF_WEIGHTS and target.is_file():
        raise ConfigError(
            f"{target}: found no file of torch.save, allowed: a checkpoint, a run folder, a configuration"
        )
    if target.is_file():
        _require_text(target)
    return CheckpointPaths(run_meant(target) or (target if target.is_dir() else runs / target.stem))


def checkpoint_path(which: str, paths: CheckpointPaths, target: Path) -> Path:
    """The file that `best`, `last`, an epoch's number or a path stands for; a target that is a checkpoint is meant.

    Raises:
        CheckpointError: When it is not there, with those that are.
        ConfigError: Another one is asked for than the target.
    """
    if is_checkpoint(target):
        if which != "last":
            raise ConfigError(f"--checkpoint: found {which} with {target}, which is a checkpoint itself; leave it out")
        return target
    if which in ("best", "last"):
        path = paths.best if which == "best" else paths.last
    elif which.isdecimal() and len(which) < _DIGITS:
        path = paths.epoch(int(which))
        if not path.is_file() and paths.last.is_file() and load_checkpoint(paths.last).epoch == int(which):
            path = paths.last
    else:
        path = Path(which)
    if not path.is_file():
        kept = ", ".join(file.stem for file in paths.all()) or "none"
        has = f"{paths.folder} has {kept}"
        if not paths.folder.exists():
            runs = paths.folder.parent
            others = _runs_in(runs)
            more = f" and {len(others) - _RUNS_NAMED} more" if len(others) > _RUNS_NAMED else ""
            place = "" if runs == Path("runs") else f" --runs {shlex.quote(str(runs))}"
            has = (
                f"there is no run {paths.folder}, of runs there are "
                f"{', '.join(map(str, others[:_RUNS_NAMED])) or 'none'}{more}; "
                f"`mixmo-fast train {shlex.quote(str(target))}{place}` trains it first"
            )
        raise CheckpointError(
            f"{path}: no such checkpoint; {has}. --checkpoint takes last, best, an epoch that was kept, or a path"
        )
    return path


def _require_text(target: Path) -> None:
    """Refuses what is no configuration at a glance, such as a picture that stands in front of the run."""
    try:
        with open_regular(target) as file:
            start = file.read(1024)
    except OSError:
        return  # whoever reads it says why it cannot be
    if b"\0" in start and not start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ConfigError(f"{target}: found a picture or another binary file, {_ALLOWED}; pictures come behind it")
    if start.lstrip().startswith(b"<"):
        raise ConfigError(f"{target}: found a page, {_ALLOWED}")
    if target.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{target}: found a file of more than {MAX_BYTES} bytes, {_ALLOWED}")


def _runs_in(*places: Path) -> list[Path]:
    """The run folders in some folders."""
    return sorted({folder for place in places for folder in place.glob("*/") if is_run_folder(folder)})
