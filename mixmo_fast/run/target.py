"""What a command's target stands for, and which of the checkpoints that it has is meant."""

import os
from difflib import get_close_matches
from pathlib import Path

from mixmo_fast.errors import CheckpointError, ConfigError
from mixmo_fast.files import open_regular
from mixmo_fast.runfolder.names import CONFIG, CheckpointPaths, is_run_folder
from mixmo_fast.training.checkpoint import load_checkpoint

_OF_WEIGHTS = (".pt", ".pth", ".ckpt", ".safetensors")
_DIGITS = 10  # of an epoch's number
_RUNS_NAMED = 5  # at most, by a message


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
        near = get_close_matches(target.name, [folder.name for folder in others], 1, cutoff=0.5)
        meant = next((f"; did you mean {folder}?" for folder in others if folder.name in near), "")
        raise ConfigError(
            f"{target}: not there; allowed: a run folder, a checkpoint, or a configuration file whose run is in "
            f"--runs{meant}"
        )
    if target.is_dir() and not (target / CONFIG).is_file():
        raise ConfigError(f"{target}: not a run folder (it has no {CONFIG})")
    if is_checkpoint(target):
        return CheckpointPaths(target.parent.parent)
    if target.suffix in _OF_WEIGHTS and target.is_file():
        raise ConfigError(
            f"{target}: found no file of torch.save, allowed: a checkpoint, a run folder, a configuration"
        )
    return CheckpointPaths(target if target.is_dir() else runs / target.stem)


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
            others = ", ".join(map(str, _runs_in(paths.folder.parent)[:_RUNS_NAMED])) or "none"
            has = f"there is no run {paths.folder}, of runs there are {others}"
        raise CheckpointError(
            f"{path}: no such checkpoint; {has}. --checkpoint takes last, best, an epoch that was kept, or a path"
        )
    return path


def _runs_in(*places: Path) -> list[Path]:
    """The run folders in some folders."""
    return sorted({folder for place in places for folder in place.glob("*/") if is_run_folder(folder)})
