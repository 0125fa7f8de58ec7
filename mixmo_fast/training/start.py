"""What a new run begins with instead of fresh weights: those of any checkpoint, and its momentum where asked for.

A file may be a checkpoint of this program, one of the authors', or a plain state dict, alone or under a name that
people use; nothing in it is executed. It gives weights and momentum, never a schedule: the run begins at epoch 1, with
its own configuration. Where it began is kept in the run folder's `environment.json`, so that the same command can go
on with the run later.

Shapes: K classes, F features.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mixmo_fast.errors import CheckpointError, MixmoError
from mixmo_fast.networks.multi import MixMo
from mixmo_fast.runfolder.names import ENVIRONMENT
from mixmo_fast.runfolder.record import read_record
from mixmo_fast.runfolder.records import Environment, StartedFrom
from mixmo_fast.training.checkpoint import as_checkpoint, load_network, read_plain
from mixmo_fast.training.reference_checkpoint import STATE, as_reference_checkpoint, by_our_names

_NESTED = ("state_dict", "model")
"""Names under which people keep a state dict, with the optimiser's beside it under `optimizer`."""


@dataclass(frozen=True)
class Start:
    """What a file offers a new run to begin with.

    Attributes:
        path: The file.
        sha256: Of its bytes, hexadecimal.
        kind: Whose it is, in words.
        network: A state dict by our names, in the file's order.
        optimizer: The optimiser's state dict, unchecked; None where the file holds none.
        with_momentum: Whether the run is to have that, too.
    """

    path: Path
    sha256: str
    kind: str
    network: dict[str, Tensor]
    optimizer: object
    with_momentum: bool

    def record(self) -> StartedFrom:
        """What the run folder keeps of it."""
        return StartedFrom(path=str(self.path.resolve()), sha256=self.sha256, optimizer=self.with_momentum)


def read_start(path: Path, with_momentum: bool) -> Start:
    """Reads a file to begin with, onto the CPU.

    Raises:
        CheckpointError: When it is missing, damaged, would have to be executed, or holds no weights.
    """
    content = read_plain(path)
    optimizer: object
    if isinstance(content, dict) and "format" in content:
        ours = as_checkpoint(content, path)
        kind, network, optimizer = f"a checkpoint after epoch {ours.epoch}", ours.network, ours.optimizer
    elif isinstance(content, dict) and STATE in content:
        theirs = as_reference_checkpoint(content, path)
        kind = f"a checkpoint of mixmo-pytorch after epoch {theirs.epoch}"
        network, optimizer = theirs.network, theirs.optimizer
    else:
        kind = "a state dict"
        network, optimizer = _plain_state(content, path)
    return Start(path, _sha256(path), kind, network, optimizer, with_momentum)


def _plain_state(content: object, path: Path) -> tuple[dict[str, Tensor], object]:
    """A state dict that is the whole file or lies in it, and the optimiser's beside it."""
    if isinstance(content, dict):
        for name in _NESTED:
            if isinstance(content.get(name), dict):
                return by_our_names(content[name], path, name), content.get("optimizer")
        if content and all(isinstance(value, Tensor) for value in content.values()):
            return by_our_names(content, path, "the state dict"), None
    found = ", ".join(map(str, list(content)[:5])) if isinstance(content, dict) else type(content).__name__
    raise CheckpointError(
        f"{path}: no weights in it (found {found or 'nothing'}); allowed: a checkpoint of this program or of "
        f"mixmo-pytorch, or a state dict, alone or under {' or '.join(_NESTED)}"
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_start(network: MixMo, start: Start) -> tuple[str, ...]:
    """Loads the weights, but for heads of another number of classes, which keep the fresh ones.

    Returns:
        The heads that start anew, by name: `heads.0` and so on.

    Raises:
        CheckpointError: When anything else differs, with what does; or when a weight is not finite.
    """
    anew = tuple(f"heads.{member}" for member in range(network.members) if _has_other_classes(network, start, member))
    kept = {name: tensor for name, tensor in network.state_dict().items() if name.rpartition(".")[0] in anew}
    load_network(network, start.network | kept, start.path)
    for name, tensor in network.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{start.path}: {name} has numbers that are not finite")
    return anew


def _has_other_classes(network: MixMo, start: Start, member: int) -> bool:
    """Whether a head of the file is as ours, but for K."""
    expected = network.heads[member].weight  # (K, F)
    weight, bias = (start.network.get(f"heads.{member}.{part}") for part in ("weight", "bias"))
    if weight is None or bias is None or weight.shape[1:] != expected.shape[1:]:
        return False
    return weight.shape[:1] == bias.shape and weight.shape != expected.shape


def momentum_of(start: Start, network: MixMo, anew: Sequence[str]) -> dict[str, Tensor]:
    """The momentum buffers of the file's optimiser, by parameter; heads that start anew have none.

    An optimiser numbers its parameters in the order of the network's, which is that of the file's state dict.

    Raises:
        CheckpointError: When there are none, or the first that is missing or has another shape.
    """
    parameters = dict(network.named_parameters())
    names = [name for name in start.network if name in parameters]
    optimizer = start.optimizer
    if not isinstance(optimizer, dict) or not optimizer:
        raise CheckpointError(
            f"{start.path}: no optimiser's state in it; leave out --init-optimizer to start from the weights alone"
        )
    try:
        numbers = [number for group in optimizer["param_groups"] for number in group["params"]]
        buffers = [optimizer["state"].get(number, {}).get("momentum_buffer") for number in numbers]
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{start.path}: its optimiser's state is not of torch's form") from error
    if len(numbers) != len(names):
        raise CheckpointError(
            f"{start.path}: its optimiser's state is of {len(numbers)} parameters, the network has {len(names)}"
        )
    momentum = {}
    for name, buffer in zip(names, buffers, strict=True):
        if name.rpartition(".")[0] in anew:
            continue
        if not isinstance(buffer, Tensor):
            raise CheckpointError(f"{start.path}: its optimiser's state has no momentum buffer of {name}")
        if buffer.shape != parameters[name].shape:
            raise CheckpointError(
                f"{start.path}: the momentum buffer of {name} is {tuple(buffer.shape)}, expected "
                f"{tuple(parameters[name].shape)}"
            )
        momentum[name] = buffer
    return momentum


def recorded_start(folder: Path) -> StartedFrom | None:
    """The `Start.record` that a run folder keeps; None where its run began with fresh weights, or says nothing."""
    try:
        environment = read_record(folder / ENVIRONMENT, Environment)
    except MixmoError:
        return None
    return environment.init if environment else None


def require_start(record: StartedFrom | None, path: Path, with_momentum: bool, folder: Path) -> None:
    """Makes sure that the run in a folder is the one that began with a file, so that going on is what is asked for.

    A file that is gone by now is known by its path.

    Raises:
        CheckpointError: When the run began otherwise, saying how.
    """
    rather = "use another --name, or --from-scratch to start it again"
    if record is None:
        raise CheckpointError(f"{folder} holds a run that did not start from {path}; {rather}")
    same_file = record.path == str(path.resolve())
    if path.is_file():
        if _sha256(path) != record.sha256:
            other = f"an earlier content of {path}" if same_file else record.path
            raise CheckpointError(f"{folder} holds a run that started from {other}, not from {path}; {rather}")
    elif not same_file:
        raise CheckpointError(f"{path}: no such checkpoint, and {folder} holds a run that started from another file")
    if record.optimizer != with_momentum:
        had, now = ("with", "without") if record.optimizer else ("without", "with")
        raise CheckpointError(f"{folder} holds a run that started {had} --init-optimizer, now {now} it; {rather}")
