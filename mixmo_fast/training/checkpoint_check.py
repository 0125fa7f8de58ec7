"""Whether a file of `torch.save` is whole, and whether what is in a checkpoint is of its type.

The archive that torch writes has a CRC-32 of each of its parts, which torch itself never compares: one flipped bit
changes a weight, and nobody is told. So it is compared here, while torch reads.
"""

import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mixmo_fast.errors import shorten

_CHUNK_BYTES = 1 << 20
_THREADS = 4  # neither reading nor zlib holds Python's lock


class DamagedPart(Exception):
    """A part of an archive is not what was written; its argument is the part's name in it."""


def require_stored(path: Path) -> None:
    """Refuses an archive with parts that torch never writes, before a byte of them is read.

    Compressed ones could swell to any size; so could ones that together claim to be larger than the file.

    Raises:
        ValueError: The text says in what.
        zipfile.BadZipFile: It is no whole archive.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        raise ValueError("its parts are compressed, which torch's never are")
    if sum(part.file_size for part in parts) > path.stat().st_size:
        raise ValueError("its parts claim to be larger than the file")


def compare_checksums(path: Path) -> None:
    """Reads an archive of `torch.save` and compares the CRC-32 of each part; other files have none and pass.

    Raises:
        DamagedPart: A part is damaged.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive, ThreadPoolExecutor(_THREADS) as threads:

        def compare(part: zipfile.ZipInfo) -> None:
            try:
                with archive.open(part) as content:
                    while content.read(_CHUNK_BYTES):
                        pass
            except Exception as error:  # a checksum, a header, a flag: whatever it is, the part cannot be trusted
                raise DamagedPart(part.filename) from error

        for _ in threads.map(compare, archive.infolist()):
            pass


def name_of_part(part: str, content: object) -> str:
    """What lies in a part of an archive: the tensor's name for `.../data/12`, else the part's own.

    Args:
        part: From `DamagedPart`.
        content: What torch read all the same; None where it could not.
    """
    number = part.rpartition("/data/")[2]
    if number.isdecimal():
        seen: dict[int, int] = {}  # torch numbers memory in the order in which it first occurs
        for name, tensor in _tensors(content, ""):
            place = tensor.untyped_storage().data_ptr()
            if seen.setdefault(place, len(seen)) == int(number):
                return name
    return part


def _tensors(value: object, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _tensors(entry, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for number, entry in enumerate(value):
            yield from _tensors(entry, f"{name}.{number}")


def first_wrong_field(content: Mapping[str, Any]) -> str | None:
    """The first field of a checkpoint that is not of its type, as `key: found X, allowed: Y`; None: all are.

    Args:
        content: All fields of a `mixmo_fast.training.checkpoint.Checkpoint`.
    """
    epoch = content["epoch"]
    if type(epoch) is not int or epoch < 0:
        return f"epoch: found {_short(epoch)}, allowed: a whole number at least 0"
    for key in ("config", "history", "data"):
        if not isinstance(content[key], str):
            return f"{key}: found {_short(content[key])}, allowed: text"
    for key in ("network", "optimizer", "scaler", "within"):
        if not isinstance(content[key], dict):
            return f"{key}: found {_short(content[key])}, allowed: a dictionary"
    if not content["network"]:
        return "network: found an empty dictionary, allowed: a state dict"
    for name, tensor in content["network"].items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor) or not _is_plain(tensor):
            return f"network.{shorten(str(name))}: found {_short(tensor)}, allowed: a dense tensor"
    return _wrong_optimizer(content["optimizer"]) or _wrong_scaler(content["scaler"])


def _wrong_optimizer(optimizer: Mapping[str, Any]) -> str | None:
    state, groups = optimizer.get("state"), optimizer.get("param_groups")
    if not isinstance(state, dict):
        return f"optimizer.state: found {_short(state)}, allowed: a dictionary"
    if not isinstance(groups, list) or not groups or not all(isinstance(group, dict) for group in groups):
        return f"optimizer.param_groups: found {_short(groups)}, allowed: a list of dictionaries"
    for number, group in enumerate(groups):
        numbers = group.get("params")
        if not isinstance(numbers, list) or any(type(one) is not int for one in numbers):
            return f"optimizer.param_groups.{number}.params: found {_short(numbers)}, allowed: a list of whole numbers"
    for number, entry in state.items():
        where = f"optimizer.state.{shorten(str(number))}"
        if not isinstance(entry, dict):
            return f"{where}: found {_short(entry)}, allowed: a dictionary"
        momentum = entry.get("momentum_buffer")
        if momentum is not None and not (isinstance(momentum, Tensor) and _is_plain(momentum)):
            return f"{where}.momentum_buffer: found {_short(momentum)}, allowed: a dense tensor"
    return None


def first_wrong_momentum(network: nn.Module, optimizer: Mapping[str, Any], needed: bool) -> str | None:
    """The first momentum of an optimiser's state that is not a network's, in words; None: all are.

    torch copies one of another shape where it can be repeated, and goes on without one that is missing.

    Args:
        network: Whose parameters it belongs to.
        optimizer: An optimiser's state dict, of the right types.
        needed: Whether there has to be one for each parameter.
    """
    parameters = list(network.named_parameters())
    numbers = [number for group in optimizer["param_groups"] for number in group["params"]]
    if len(numbers) != len(parameters):
        return f"optimizer.param_groups: found {len(numbers)} parameters, allowed: {len(parameters)}"
    for number, (name, parameter) in zip(numbers, parameters, strict=True):
        momentum = optimizer["state"].get(number, {}).get("momentum_buffer")
        if momentum is None and needed:
            return f"optimizer.state.{number}: found no momentum of {name}"
        if momentum is not None and momentum.shape != parameter.shape:
            return (
                f"optimizer.state.{number}.momentum_buffer: found {tuple(momentum.shape)}, allowed: "
                f"{tuple(parameter.shape)}, as {name} is"
            )
    return None


def _wrong_scaler(scaler: Mapping[str, Any]) -> str | None:
    for name, value in scaler.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"scaler.{shorten(str(name))}: found {_short(value)}, allowed: a number"
    return None


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_quantized and tensor.device.type == "cpu"


def _short(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor, {_kind(value)}"
    return type(value).__name__ if isinstance(value, dict | list | tuple | bytes) else f"{value!r:.60}"


def _kind(tensor: Tensor) -> str:
    layout = "" if tensor.layout == torch.strided else f"{str(tensor.layout).removeprefix('torch.')} "
    return f"{layout}{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
