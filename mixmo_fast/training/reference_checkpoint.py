"""Checkpoints of the authors' implementation, read without executing anything in them.

Such a file is a dictionary of three: `epoch`, `classifier_state_dict` and `classifier_optimizer_state_dict`. Weights
are renamed to ours; the optimiser's state is left where it is, since these files are evaluated, not trained on. The
file does not say what network it is of, so a configuration has to.
"""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mixmo_fast.errors import CheckpointError
from mixmo_fast.networks.reference_names import from_reference
from mixmo_fast.training.checkpoint import FORMAT, read_plain

_STATE = "classifier_state_dict"
_PARALLEL = "module."  # what torch's DataParallel and DistributedDataParallel put before every name


@dataclass(frozen=True)
class ReferenceCheckpoint:
    """Weights that the authors' implementation trained.

    Attributes:
        epoch: Epochs completed.
        network: A state dict by our names.
    """

    epoch: int
    network: dict[str, Tensor]


def is_reference_checkpoint(path: Path) -> bool:
    """Whether a file that can be read is of the authors' form rather than ours.

    Raises:
        CheckpointError: When it cannot be read, or would have to be executed.
    """
    content = read_plain(path)
    return isinstance(content, dict) and _STATE in content and content.get("format") != FORMAT


def load_reference_checkpoint(path: Path) -> ReferenceCheckpoint:
    """Reads a checkpoint of the authors' implementation onto the CPU.

    Raises:
        CheckpointError: When it is missing, damaged, would have to be executed, or is not of that form.
    """
    content = read_plain(path)
    if not isinstance(content, dict) or not isinstance(content.get(_STATE), dict):
        found = ", ".join(map(str, list(content)[:5])) if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(f"{path}: not a checkpoint of mixmo-pytorch: no {_STATE} in it (found {found})")
    epoch, state = content.get("epoch"), content[_STATE]
    if type(epoch) is not int or epoch < 0:
        raise CheckpointError(f"{path}: epoch: found {epoch!r}, allowed: a whole number at least 0")
    strangers = [name for name, value in state.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if strangers:
        raise CheckpointError(f"{path}: {_STATE}: {strangers[0]!r} is no tensor")
    try:
        return ReferenceCheckpoint(epoch, from_reference({_without_prefix(name): state[name] for name in state}))
    except ValueError as error:
        raise CheckpointError(f"{path}: a checkpoint of another network: {error}") from error


def _without_prefix(name: str) -> str:
    return name.removeprefix(_PARALLEL)
