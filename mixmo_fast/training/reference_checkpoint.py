"""Checkpoints of the authors' implementation, both ways; nothing in a file that is read is executed.

Such a file is a dictionary of three: `epoch`, `classifier_state_dict` and `classifier_optimizer_state_dict`, torch's
own state dicts. Both programs register the same modules in the same order, so the optimiser's state, whose entries
are numbered by parameter, is the same for both; only the weights have other names. The file does not say what network
it is of, so a configuration has to.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mixmo_fast.config.schema import Config, NetworkConfig
from mixmo_fast.errors import CheckpointError, shorten
from mixmo_fast.networks.kinds import KINDS
from mixmo_fast.networks.reference_names import from_reference, to_reference
from mixmo_fast.training.checkpoint import FORMAT, Checkpoint, read_plain, save_plain
from mixmo_fast.training.schedule import base_rate

STATE = "classifier_state_dict"
_OPTIMIZER = "classifier_optimizer_state_dict"
_WRAPPERS = ("module.", "_orig_mod.")  # what torch's DataParallel, DistributedDataParallel and compile put before names
_OUR_PARTS = ("encoders.", "trunk.", "heads.")


@dataclass(frozen=True)
class ReferenceCheckpoint:
    """What the authors' implementation trained.

    Attributes:
        epoch: Epochs completed.
        network: A state dict by our names.
        optimizer: What the file holds as the optimiser's state dict, unchecked; None where it holds none.
    """

    epoch: int
    network: dict[str, Tensor]
    optimizer: object


def is_reference_checkpoint(path: Path) -> bool:
    """Whether a file that can be read is of the authors' form rather than ours.

    Raises:
        CheckpointError: When it cannot be read, or would have to be executed.
    """
    content = read_plain(path)
    return isinstance(content, dict) and STATE in content and content.get("format") != FORMAT


def load_reference_checkpoint(path: Path) -> ReferenceCheckpoint:
    """Reads a checkpoint of the authors' implementation onto the CPU.

    Raises:
        CheckpointError: When it is missing, damaged, would have to be executed, or is not of that form.
    """
    return as_reference_checkpoint(read_plain(path), path)


def as_reference_checkpoint(content: object, path: Path) -> ReferenceCheckpoint:
    """`load_reference_checkpoint`, of what `read_plain` found in the file."""
    if not isinstance(content, dict) or not isinstance(content.get(STATE), dict):
        found = ", ".join(map(str, list(content)[:5])) if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(f"{path}: not a checkpoint of mixmo-pytorch: no {STATE} in it (found {found})")
    epoch = content.get("epoch")
    if type(epoch) is not int or epoch < 0:
        raise CheckpointError(f"{path}: epoch: found {epoch!r}, allowed: a whole number at least 0")
    return ReferenceCheckpoint(epoch, by_our_names(content[STATE], path, STATE), content.get(_OPTIMIZER))


def by_our_names(state: Mapping[object, object], path: Path, where: str) -> dict[str, Tensor]:
    """A network's state dict by our names, in its own order; it may have theirs, and be of a wrapped network.

    Args:
        state: As read from a file.
        path: The file, for messages.
        where: What in it, for messages.

    Raises:
        CheckpointError: When an entry is no tensor, or has a name that neither program uses.
    """
    plain: dict[str, Tensor] = {}
    for name, value in state.items():
        if not (isinstance(name, str) and isinstance(value, Tensor)):
            raise CheckpointError(f"{path}: {where}: {shorten(repr(name))} is no tensor")
        plain[_without_wrappers(name)] = value
    if len(plain) < len(state):
        raise CheckpointError(f"{path}: {where}: two entries have one name once {' and '.join(_WRAPPERS)} are left out")
    if any(name.startswith(_OUR_PARTS) for name in plain):
        return plain
    try:
        return from_reference(plain)
    except ValueError as error:
        raise CheckpointError(f"{path}: a checkpoint of another network: {error}") from error


def _without_wrappers(name: str) -> str:
    while name.startswith(_WRAPPERS):
        for wrapper in _WRAPPERS:
            name = name.removeprefix(wrapper)
    return name


def save_reference_checkpoint(checkpoint: Checkpoint, config: Config, path: Path) -> None:
    """Writes a checkpoint of ours in the authors' form, whole or not at all; every number keeps its bits.

    The optimiser's settings become those of the authors' configurations: `initial_lr` is what their schedule starts
    from, `lr` the rate of the last step. Their WideResNet's decay is a term of the loss (`l2_reg`, half of our
    `optimizer.weight_decay`), and their optimiser then has none; their PreActResNet's is the optimiser's, as ours is.

    Args:
        checkpoint: The state of a run.
        config: The run's configuration, of a network of the paper.
        path: The file; one that is there is replaced.

    Raises:
        CheckpointError: When it cannot be written.
    """
    network = to_reference(checkpoint.network, config.network.members)
    content = {
        "epoch": checkpoint.epoch,
        # Laid out in memory as a reader expects who knows nothing of channels_last.
        STATE: OrderedDict((name, tensor.contiguous()) for name, tensor in network.items()),
        _OPTIMIZER: {
            "state": {
                number: {name: _contiguous(value) for name, value in state.items()}
                for number, state in checkpoint.optimizer["state"].items()
            },
            "param_groups": [_their_group(group, config) for group in checkpoint.optimizer["param_groups"]],
        },
    }
    save_plain(content, path)


def _contiguous(value: object) -> object:
    return value.contiguous() if isinstance(value, Tensor) else value


def _their_group(group: Mapping[str, Any], config: Config) -> dict[str, Any]:
    optimizer, network = config.optimizer, config.network
    assert isinstance(network, NetworkConfig)
    return dict(group) | {
        "lr": float(group["lr"]),  # a tensor where a kernel read it on a GPU
        "initial_lr": base_rate(config),
        "momentum": optimizer.momentum,
        "nesterov": optimizer.nesterov,
        "weight_decay": 0 if KINDS[network.kind].authors_decay_in_loss else optimizer.weight_decay,
        "foreach": None,
        "fused": None,
    }
