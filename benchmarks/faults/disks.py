"""Commands on disks that are too small: one line, older files whole, nothing left over, and later on as ever.

A disk is a `tmpfs` of a drawn size where this process may mount one; elsewhere files may not become larger than it.
"""

import os
import random
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.faults.campaign import Campaign, Fault
from benchmarks.faults.commands import leftovers, run_command

_ENOUGH = 200 * 2**20


def _fresh(small: Path, disk: Path) -> list[object]:
    return ["train", small / "small.yaml", "--data", small / "data", "--runs", disk / "runs", *_TRAINING]


_TRAINING = ("--device", "cpu", "--set", "step.compile=false", "--set", "batch.rows=128")

# What is run, and about how many bytes it writes.
COMMANDS: dict[str, tuple[Callable[[Path, Path], list[object]], int]] = {
    "convert": (lambda small, disk: ["convert", "digits", "--data", disk / "data"], 6_000_000),
    "train": (_fresh, 3_000_000),
    "evaluate": (
        lambda small, disk: [
            "evaluate",
            disk / "small",
            "--data",
            small / "data",
            "--device",
            "cpu",
            "--checkpoint",
            "last",
        ],
        200_000,
    ),
    "report": (
        lambda small, disk: ["report", disk / "small", "--data", small / "data", "-o", disk / "compared"],
        400_000,
    ),
    "inspect": (lambda small, disk: ["inspect", disk / "small", "--data", small / "data", "--device", "cpu"], 200_000),
    "preview": (
        lambda small, disk: ["preview", small / "small.yaml", "--data", small / "data", "-o", disk / "batch.png"],
        300_000,
    ),
    "doctor": (lambda small, disk: ["doctor", "--data", small / "data", "--json", disk / "doctor.json"], 8_000),
    "export": (
        lambda small, disk: ["export", disk / "small", "--format", "onnx", "-o", disk / "network.onnx"],
        500_000,
    ),
    "checkpoint export": (
        lambda small, disk: ["checkpoint", "export", disk / "small", "-o", disk / "run.ckpt"],
        1_300_000,
    ),
    "config new": (
        lambda small, disk: ["config", "new", "-o", disk / "configs", "exp_cifar100_wrn2810-2_mimo_standard_bar4"],
        4_000,
    ),
}


class SmallDisks(Campaign):
    """Done, or refused in a line: what was there before is whole, nothing is left over, and with room all goes on."""

    name = "disks"
    title = "every command on disks of any size that are too small for it"
    inputs = 120
    seconds = 240.0

    def prepare(self, small: Path) -> None:
        """Knows where things are."""
        self.small = small

    def attempt(self, draw: random.Random, number: int, folder: Path) -> str:
        """Runs a command on a small disk, and again once it has grown."""
        name = list(COMMANDS)[number % len(COMMANDS)]
        arguments_of, size = COMMANDS[name]
        room = int(size * draw.choice([0.001, 0.01, draw.random(), draw.random(), draw.random()]))
        mounted = os.geteuid() == 0 and draw.random() < 0.8
        with _disk(folder / "disk", mounted) as disk:
            shutil.copytree(self.small / "runs" / "small", disk / "small")
            for made in ("batch.png", "doctor.json", "network.onnx", "run.ckpt"):
                (disk / made).write_text("older")
            before = _kept(disk)
            arguments = arguments_of(self.small, disk)
            forced = [*arguments, "--force"] if name in ("export", "checkpoint export", "config new") else arguments
            if mounted:
                used = shutil.disk_usage(disk).used
                _grow(disk, used + room)
                done = run_command(forced)
                _grow(disk, _ENOUGH)
            else:
                done = run_command(forced, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)))
            shown = f"{name}, {room:,} bytes {'of disk' if mounted else 'a file'}: {done.stderr[-300:]!r}"
            if done.returncode not in (0, 2):
                raise Fault(f"exit code {done.returncode}: {name}", shown)
            if left := leftovers(disk):
                raise Fault(f"left over: {name}", f"{shown}: {left}")
            for path, content in before.items():
                if done.returncode == 2 and path not in _refreshed(name) and (disk / path).read_bytes() != content:
                    raise Fault(f"an older file is another: {name}", f"{shown}: {path}")
            again = run_command(forced)
            if again.returncode:
                raise Fault(f"does not go on with room: {name}", f"{shown}; then {again.stderr[-500:]!r}")
        return f"{name}: {'refused' if done.returncode else 'done'}"


def _refreshed(name: str) -> tuple[str, ...]:
    """Files that a command writes one after the other, so that an earlier one may be new where a later one fails."""
    return (
        ("small/evaluations/last/evaluation.json", "small/evaluations/last/inspection.json", "small/report.html")
        if name in ("evaluate", "inspect")
        else ()
    )


def _kept(disk: Path) -> Mapping[str, bytes]:
    """What is there before."""
    paths = (path for path in disk.rglob("*") if path.is_file() and path.suffix not in (".png", ".lock"))
    named = {str(path.relative_to(disk)): path.read_bytes() for path in paths}
    return named | {"batch.png": b"older"}


@contextmanager
def _disk(folder: Path, mounted: bool) -> Iterator[Path]:
    folder.mkdir()
    if mounted:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_ENOUGH}", "none", folder], check=True)
    try:
        yield folder
    finally:
        if mounted:
            subprocess.run(["umount", "-l", folder], check=True)


def _grow(disk: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)
