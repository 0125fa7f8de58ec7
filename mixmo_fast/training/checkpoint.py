"""Checkpoints: written atomically, read without executing anything, refused when they are of another run.

A checkpoint is one file of plain tensors, numbers and the resolved configuration as text, so it can be evaluated
without the file that started the run.
"""

import errno
import hashlib
import pickle
import re
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor, nn

from mixmo_fast.errors import CheckpointError, MixmoError, shorten
from mixmo_fast.files import reason, replacing
from mixmo_fast.networks.kinds import KINDS
from mixmo_fast.training.checkpoint_check import (
    DamagedPart,
    compare_checksums,
    first_wrong_field,
    name_of_part,
    require_stored,
)

FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run at the end of an epoch, or within the one after it.

    Attributes:
        epoch: Epochs completed.
        config: The resolved configuration, YAML.
        network: The network's state dict.
        optimizer: The optimiser's state dict.
        scaler: The gradient scaler's state dict; empty unless fp16.
        history: The rows of `metrics.jsonl` up to this epoch, JSON.
        data: The data set that was trained on, the JSON of `mixmo_fast.runfolder.trained_on.TrainedOn`; empty in
            checkpoints of versions that kept none.
        within: Where the run stands within the epoch after those, a `mixmo_fast.training.within.Within` as a
            dictionary; empty at the end of an epoch.
    """

    epoch: int
    config: str
    network: dict[str, Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    history: str
    data: str = ""
    within: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(checkpoint: Checkpoint, path: Path, aliases: Sequence[Path] = ()) -> None:
    """Writes a checkpoint under `path`, and the same file under each alias.

    The file is complete on disk before any name points to it. The aliases are renamed first: if the process dies in
    between, `path` still holds the epoch before, which is then repeated and gives the same file again.

    Raises:
        CheckpointError: When it cannot be written (the disk is full, say); what was there before is untouched.
    """
    save_plain({"format": FORMAT, **vars(checkpoint)}, path, aliases)


def save_plain(content: Mapping[str, Any], path: Path, aliases: Sequence[Path] = ()) -> None:
    """Writes tensors and plain values, among them the `epoch` they are of, as `save_checkpoint` says.

    Raises:
        CheckpointError: As `save_checkpoint`.
    """
    try:
        with replacing(path, aliases) as file:
            torch.save(dict(content), cast("IO[bytes]", file))
    except MixmoError as error:
        why = reason(error.__cause__) if isinstance(error.__cause__, OSError) else str(error)
        raise CheckpointError(
            f"{path}: cannot write the checkpoint of epoch {content['epoch']}: {why}; earlier ones are untouched"
        ) from error


def remove_unfinished(folder: Path) -> None:
    """Removes what writers of checkpoints that were killed left, in a folder that nobody else writes to."""
    # Through a link, it may be anybody's.
    for left in () if folder.is_symlink() else folder.glob(".*.pt.*"):
        if re.fullmatch(r"\..+\.pt\.(tmp|link|tmp-.+)", left.name):  # the first two are of earlier versions
            with suppress(OSError):
                left.unlink()


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint of `save_checkpoint` onto the CPU.

    Raises:
        CheckpointError: When it is missing, truncated, not of this program, or holds anything but plain data.
    """
    return as_checkpoint(read_plain(path), path)


def as_checkpoint(content: object, path: Path) -> Checkpoint:
    """`load_checkpoint`, of what `read_plain` found in the file."""
    mark = content.get("format") if isinstance(content, dict) else None
    if not isinstance(content, dict) or type(mark) is not int or mark != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of this program (no format {FORMAT} mark)")
    try:
        checkpoint = Checkpoint(**{name: value for name, value in content.items() if name != "format"})
    except TypeError as error:
        raise CheckpointError(f"{path}: incomplete checkpoint: {error}") from error
    if wrong := first_wrong_field(vars(checkpoint)):
        raise CheckpointError(f"{path}: damaged checkpoint: {wrong}")
    return checkpoint


def read_plain(path: Path) -> object:
    """What a file of `torch.save` holds, on the CPU, if that is tensors and plain values; nothing in it is executed.

    Raises:
        CheckpointError: When it is missing, damaged, or holds anything that would have to be executed.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    content = None
    try:
        require_stored(path)
        # Both wait for the disk, and neither holds Python's lock meanwhile. What torch warns of, sparse tensors, is
        # refused later.
        with ThreadPoolExecutor(1) as reader, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compared = reader.submit(compare_checksums, path)
            try:
                content = torch.load(path, map_location="cpu", weights_only=True)
            except Exception:
                compared.result()  # a damaged part explains more than what torch makes of it
                raise
            compared.result()
        return content
    except DamagedPart as damaged:
        part = name_of_part(str(damaged), content)
        raise CheckpointError(f"{path}: damaged: the checksum of {part} is not that of what was written") from damaged
    except Exception as error:  # torch raises many kinds for damaged files: zip, pickle, EOF, runtime
        said = " ".join(str(error).split()) or type(error).__name__
        foreign = re.search(r"GLOBAL ([\w.]+)", said)
        if foreign:
            name = shorten(foreign[1])
            raise CheckpointError(
                f"{path}: holds more than tensors and plain values ({name}), which could run code; refused, and "
                "nothing of it was run"
            ) from error
        # What torch advises, programmers alone can do, and it would run what is in the file.
        if isinstance(error, pickle.UnpicklingError | EOFError | KeyError) or "inline_container" in said:
            said = "torch.save did not write it, or it is damaged" if path.stat().st_size else "it is empty"
        # Of half an archive, by torch; of one that ends where its list of parts is looked for, by zipfile.
        if "PytorchStreamReader" in said or (isinstance(error, OSError) and error.errno == errno.EINVAL):
            said = "it is cut off or damaged"
        raise CheckpointError(f"{path}: not a readable checkpoint ({shorten(said, 150)})") from error


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """A checksum of weights on the CPU: the same for the same names, shapes, types and bits, in whatever file."""
    sha256 = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        sha256.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha256.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().data)
    return sha256.hexdigest()


def load_network(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Loads weights after comparing names and shapes.

    Raises:
        CheckpointError: With the first differences and what explains them, when the checkpoint is of another network.
    """
    expected = network.state_dict()
    differences = [f"{name} is missing" for name in expected if name not in state]
    differences += [f"{shorten(name)} is unknown" for name in state if name not in expected]
    differences += [
        f"{name} is {tuple(state[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if differences:
        shown = "; ".join(differences[:3])
        more = f" (and {len(differences) - 3} more)" if len(differences) > 3 else ""
        cause = _likely_cause(_measure(state), _measure(expected))
        raise CheckpointError(f"{path}: a checkpoint of another network: {shown}{more}{cause}")
    network.load_state_dict(state)


def _measure(state: Mapping[str, Tensor]) -> dict[str, object]:
    """What a state dict tells of its network's architecture, by what a user would call it."""
    encoders = [name for name in state if name.startswith("encoders.") and name.endswith(".weight")]
    heads = [tensor for name, tensor in state.items() if name.startswith("heads.") and name.endswith(".weight")]
    measures: dict[str, object] = {"network.members": len(encoders)}
    marked = [kind for kind, row in KINDS.items() if any(name.startswith(row.state_mark) for name in state)]
    if len(marked) == 1:  # a library's network may have the names of all
        measures["network.kind"] = marked[0]
        measures["blocks"] = len({name.split(".")[2] for name in state if name.startswith("trunk.layer1.")})
    if heads and heads[0].ndim == 2:
        measures |= {"classes": heads[0].shape[0], "features": heads[0].shape[1]}
    return measures


def _likely_cause(found: Mapping[str, object], expected: Mapping[str, object]) -> str:
    """Where two architectures differ, as the end of a message; empty where nothing can be told."""
    words = {
        "network.kind": "network.kind {} instead of {}",
        "network.members": "{} members instead of {}",
        "blocks": "{} blocks a group instead of {} (network.depth)",
        "features": "{} features before the heads instead of {} (network.width)",
        "classes": "{} classes instead of {} (another data set)",
    }
    told = [
        text.format(found[key], expected[key])
        for key, text in words.items()
        if key in found and key in expected and found[key] != expected[key]
    ]
    return f". The file has {', '.join(told)}" if told else ""
