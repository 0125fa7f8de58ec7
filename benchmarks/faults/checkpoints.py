"""Damaged and hostile checkpoints: their bytes, what is in them, and pickles that would run something."""

import os
import pickle
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.faults.campaign import Campaign, Fault, differing, outcome
from benchmarks.faults.damage import damaged
from benchmarks.faults.poison import VALUES, damaged_tree
from mixmo_fast.config.load import parse_config
from mixmo_fast.errors import CheckpointError, MixmoError
from mixmo_fast.run import build
from mixmo_fast.run.beginning import find_beginning, load_beginning
from mixmo_fast.run.same_data import data_of
from mixmo_fast.run.trained import read_weights
from mixmo_fast.runfolder.history import from_json
from mixmo_fast.training.checkpoint import load_checkpoint
from mixmo_fast.training.checkpoint_check import first_wrong_momentum
from mixmo_fast.training.reference_checkpoint import is_reference_checkpoint
from mixmo_fast.training.start import read_start
from mixmo_fast.training.step import make_optimizer
from mixmo_fast.training.within import parse_within

_CANARY = "owned"


class _OfARun(Campaign):
    """Has a copy of a run folder with one checkpoint, `last`, which is then damaged."""

    def prepare(self, small: Path) -> None:
        """Reads the checkpoint of the small run."""
        self.run = small / "runs" / "small"
        self.path = self.run / "checkpoints" / "last.pt"
        self.bytes = self.path.read_bytes()
        self.content: dict[str, Any] = torch.load(self.path, weights_only=True)
        self.whole = {name: value.clone() for name, value in self.content["network"].items()}

    def copy(self, folder: Path) -> Path:
        """A run folder with everything but checkpoints; the path that its last one belongs to."""
        shutil.copytree(self.run, folder / "small", ignore=shutil.ignore_patterns("checkpoints", "tensorboard"))
        (folder / "small" / "checkpoints").mkdir()
        return folder / "small" / "checkpoints" / "last.pt"


class CheckpointBytes(_OfARun):
    """Refused in a line, or the very same network: no weight changes in silence."""

    name = "checkpoint_bytes"
    title = "checkpoints with bits flipped, blocks zeroed, cut, doubled, moved or put in"
    inputs = 2_000

    def attempt(self, draw: random.Random, number: int, folder: Path) -> str:
        """Loads one, and compares everything in it with what was written."""
        path = folder / "last.pt"
        content = damaged(draw, self.bytes)
        path.write_bytes(content)
        found = outcome(lambda: load_checkpoint(path))
        if isinstance(found, MixmoError):
            return "refused"
        before = {name: value for name, value in self.content.items() if name != "format"}
        if difference := differing(before, vars(found)):
            raise Fault("a damaged checkpoint is read as another", difference)
        return "read as it was"


class CheckpointStructure(_OfARun):
    """Refused in a line, or something that training can go on from and a network that predicts."""

    name = "checkpoint_structure"
    title = "whole checkpoints whose fields, tensors and groups are of other types, shapes and numbers"
    inputs = 700

    def attempt(self, draw: random.Random, number: int, folder: Path) -> str:
        """Writes one with something else in it, and goes on from it as `train` and `predict` do."""
        path = self.copy(folder)
        content = damaged_tree(draw, self.content, (*VALUES, *_tensors(draw)))
        torch.save(content, path)
        network = outcome(lambda: read_weights(path.parent.parent, "last", folder, lambda _: None).network())
        start = outcome(lambda: read_start(path, with_momentum=draw.random() < 0.5))
        further = outcome(lambda: go_on(path.parent.parent))
        refused = sum(isinstance(one, MixmoError) for one in (network, start, further))
        return "refused" if refused == 3 else "accepted" if refused == 0 else "accepted in part"


def go_on(run: Path) -> None:
    """What `train` does with a checkpoint before its first step."""
    config = parse_config((run / "config.yaml").read_text(), "config.yaml")
    beginning = find_beginning(config, run, None, False, False, False)
    checkpoint = beginning.checkpoint
    assert checkpoint
    data_of(checkpoint, run)
    parse_within(checkpoint.within, 1, str(run))
    from_json(checkpoint.history, str(run))
    network = build.make_network(config, 10, (16, 16), True)
    load_beginning(network, beginning, run)
    if wrong := first_wrong_momentum(network, checkpoint.optimizer, needed=True):
        raise CheckpointError(f"{run}: damaged checkpoint: {wrong}")
    make_optimizer(network, config.optimizer, fused=True).load_state_dict(checkpoint.optimizer)


def _tensors(draw: random.Random) -> tuple[Tensor, ...]:
    """Tensors that a checkpoint does not have."""
    return (
        *(torch.zeros(0), torch.zeros(3), torch.ones(2, 2, 2, 2), torch.full((16,), float("nan"))),
        *(torch.zeros(1, dtype=torch.int64), torch.zeros(16, dtype=torch.complex64), torch.eye(3).to_sparse()),
        *(
            torch.zeros(16, dtype=torch.float64),
            torch.zeros(1).expand(10**6),
            torch.quantize_per_tensor(torch.ones(3), 1, 0, torch.qint8),
        ),
        *(torch.zeros(3, device="meta"), torch.zeros(16, dtype=torch.bool), torch.nn.Parameter(torch.zeros(16))),
    )


class CheckpointGadgets(_OfARun):
    """Refused in a line, and nothing of it is executed."""

    name = "checkpoint_gadgets"
    title = "checkpoints whose pickles would run something, in torch's archive, alone, and in older formats"
    inputs = 400

    def attempt(self, draw: random.Random, number: int, folder: Path) -> str:
        """Reads one by every way there is."""
        canary = folder / _CANARY
        path = self.copy(folder)
        program = draw.choice(GADGETS)(str(canary), draw)
        if draw.random() < 0.3:
            program = damaged(draw, program)
        match draw.randrange(4):
            case 0:  # older than archives: pickles one after the other
                path.write_bytes(program if draw.random() < 0.5 else pickle.dumps(0x1950A86A20F9469CFC6C, 2) + program)
            case 1:
                with zipfile.ZipFile(path, "w", draw.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
                    archive.writestr(
                        draw.choice(["archive/data.pkl", "data.pkl", "constants.pkl", "x/code/a.py"]), program
                    )
                    archive.writestr("archive/version", "3")
            case _:  # a whole checkpoint, with this for its contents
                with zipfile.ZipFile(self.path) as old, zipfile.ZipFile(path, "w") as archive:
                    for part in old.namelist():
                        archive.writestr(part, program if part.endswith("data.pkl") else old.read(part))
        for read in (
            lambda: load_checkpoint(path),
            lambda: is_reference_checkpoint(path),
            lambda: read_start(path, with_momentum=True),
            lambda: read_weights(path.parent.parent, "last", folder, lambda _: None).network(),
        ):
            found = outcome(read)
            if canary.exists():
                raise Fault("something in a checkpoint was executed", repr(program[:200]))
            if not isinstance(found, MixmoError) and found is not False:
                raise Fault("a checkpoint of something else is accepted", repr(program[:200]))
        return "refused"


class _Calls:
    """Pickled, it says that a function is to be called."""

    def __init__(self, function: Callable[..., object], *arguments: object):
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def _reduced(function: Callable[..., object], *arguments: object) -> Callable[[str, random.Random], bytes]:
    """A pickle that calls a function; `{}` in its arguments is the file that it would make."""

    def program(canary: str, draw: random.Random) -> bytes:
        filled = [one.replace("{}", canary) if isinstance(one, str) else one for one in arguments]
        call: object = _Calls(function, *filled)
        wrapped = draw.choice([call, {"format": 1, "network": call}, [call] * 3, {"format": call}])
        return pickle.dumps(wrapped, draw.choice([0, 1, 2, 4]))

    return program


def _opcodes(template: bytes) -> Callable[[str, random.Random], bytes]:
    """A pickle by its opcodes; `{}` is the file that it would make."""
    return lambda canary, _: template.replace(b"{}", canary.encode())


GADGETS: tuple[Callable[[str, random.Random], bytes], ...] = (
    _reduced(os.system, "touch {}"),
    _reduced(os.mkdir, "{}"),
    _reduced(exec, "open('{}', 'w')"),
    _reduced(eval, "open('{}', 'w')"),
    _reduced(open, "{}", "w"),
    _reduced(getattr, "touch {}", "upper"),
    _reduced(torch.hub.load, "x", "y"),
    _reduced(torch.load, "{}"),
    _reduced(shutil.copy, "/etc/hostname", "{}"),
    _reduced(__import__, "antigravity"),
    _opcodes(b"cos\nsystem\n(S'touch {}'\ntR."),
    _opcodes(b"(S'touch {}'\nios\nsystem\n."),
    _opcodes(b"(cos\nsystem\nS'touch {}'\no."),
    _opcodes(b'cbuiltins\nexec\n(S\'open("{}", "w")\'\ntR.'),
    _opcodes(b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x08touch {}\x85R."),
    _opcodes(b"\x80\x02ccopyreg\n_reconstructor\n(cos\nsystem\nc__builtin__\nobject\nNtR}S'x'\nS'touch {}'\nsb."),
    _opcodes(b'\x80\x02cnumpy.testing._private.utils\nrunstring\n(S\'open("{}","w")\'\n}tR.'),
    _opcodes(b"ctorch._dynamo.guards\nGuardBuilder.get\n(S'x'\ntR."),
    _opcodes(b"ctorch.serialization\n_legacy_load\n(S'{}'\ntR."),
    _opcodes(b"\x80\x02]q\x00" + b"(" * 50_000 + b"t" * 50_000 + b"."),
    _opcodes(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."),
    _opcodes(b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f."),
    _opcodes(b"\x80\x02X\xff\xff\xff\x7fabc."),
    _opcodes(b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f."),
    _opcodes(b"\x80\x02j\xff\xff\xff\xff."),
    _opcodes(b"\x80\x022222222222."),
    _opcodes(
        b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu\x8b\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00@tQ."
    ),
)
