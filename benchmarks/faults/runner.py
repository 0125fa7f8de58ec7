"""Runs campaigns in processes of their own, so that an input that kills or stops one is a fault like any other."""

import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.faults.campaign import Campaign, Fault, kind_of

_PREPARING = 600.0  # seconds that a campaign may take to prepare

SMALL_RUN = """\
data: {dataset: digits, holdout: 0.5}
network: {kind: wide_resnet, depth: 10, width: 1, members: 2}
mixing: {method: patch, prob: 0.5}
msda: {method: cutmix}
batch: {rows: 64}
optimizer: {lr: 0.05, weight_decay: 0.0006}
schedule: {epochs: 2, warmup_steps: 11, milestones: {2: 0.1}}
checkpoint: {every_epochs: 1}
step: {precision: fp32, compile: false}
"""


@dataclass
class Found:
    """What a campaign came to.

    Attributes:
        inputs: How many were tried.
        outcomes: What happened, and how often.
        faults: By kind: how often, and the first input that showed it.
        seconds: All of it took.
    """

    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0

    def add_fault(self, number: int, kind: str, shown: str) -> None:
        """Notes a fault; of each kind the first input is kept."""
        self.outcomes["fault"] += 1
        noted = self.faults.setdefault(kind, {"count": 0, "first_input": number, "shown": shown[:1000]})
        noted["count"] += 1


def make_small_run(folder: Path) -> None:
    """Converts the digits into `data/` and trains `runs/small` there, by the commands that a user has."""
    config = folder / "small.yaml"
    config.write_text(SMALL_RUN)
    command = [sys.executable, "-m", "mixmo_fast"]
    place = ["--data", folder / "data"]
    training = ["train", config, *place, "--runs", folder / "runs", "--device", "cpu"]
    surroundings = os.environ | {"OMP_NUM_THREADS": "1"}
    for arguments in (["convert", "digits", *place], training):
        subprocess.run([*command, *arguments], check=True, capture_output=True, env=surroundings)


def run(
    campaign: type[Campaign],
    work: Path,
    seed: int,
    numbers: range,
    seconds: float,
    progress: Callable[[int], None] = lambda _: None,
) -> Found:
    """Tries inputs until there are no more, or the time is up.

    Args:
        campaign: Which.
        work: As `Campaign.prepare` has it; inputs have folders in it.
        seed: What the inputs are drawn with.
        numbers: Of the inputs.
        seconds: After which none is begun; what is prepared takes its own time.
        progress: Called with how many are done.
    """
    found, started, at = Found(), time.monotonic(), numbers.start
    while at < numbers.stop and (at == numbers.start or time.monotonic() < started + seconds):
        left = seconds if at == numbers.start else started + seconds - time.monotonic()
        at = _in_one_process(campaign, work, seed, range(at, numbers.stop), left, found, progress)
    found.seconds = time.monotonic() - started
    return found


def _in_one_process(
    campaign: type[Campaign],
    work: Path,
    seed: int,
    numbers: range,
    seconds: float,
    found: Found,
    progress: Callable[[int], None],
) -> int:
    """The number of the input to go on with: behind one that ended the process, or behind the last."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_attempts, args=(theirs, campaign, work, seed, numbers, seconds))
    child.start()
    theirs.close()
    number, patience = numbers.start, _PREPARING
    try:
        while True:
            if not ours.poll(patience):
                found.inputs += 1
                found.add_fault(number, "takes too long", f"more than {patience:g} s")
                return number + 1
            word, number, *said = ours.recv()
            patience = campaign.seconds
            if word == "ended":
                return numbers.stop
            if word == "unprepared":
                raise RuntimeError(f"{campaign.name} could not be prepared: {said[0]}")
            if word == "done":
                found.inputs += 1
                if len(said) == 1:
                    found.outcomes[said[0]] += 1
                else:
                    found.add_fault(number, *said)
                progress(found.inputs)
    except EOFError:
        child.join()
        found.inputs += 1
        found.add_fault(number, f"ends the process with {child.exitcode}", "")
        return number + 1
    finally:
        child.kill()
        child.join()


def _attempts(
    parent: Connection, campaign: type[Campaign], work: Path, seed: int, numbers: range, seconds: float
) -> None:
    """What the process does: attempts, one after the other, and what came of each to the parent."""
    quiet = os.open(work / f"{campaign.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    one = campaign()
    try:
        one.prepare(work)
    except Exception as error:
        parent.send(("unprepared", numbers.start, repr(error)))
        raise
    until = time.monotonic() + seconds
    for number in numbers:
        if number > numbers.start and time.monotonic() > until:
            break
        parent.send(("begin", number))
        folder = work / f"{campaign.name}-{number}"
        folder.mkdir(parents=True)
        before = _memory()
        try:
            said = (one.attempt(random.Random(f"{campaign.name} {seed} {number}"), number, folder),)
            if _memory() > before + campaign.memory:
                raise Fault("takes much memory", f"{(_memory() - before) / 1e9:.1f} GB")
        except Fault as fault:
            said = (fault.kind, fault.shown)
        except Exception as error:
            said = (kind_of(error), repr(error))
        shutil.rmtree(folder, ignore_errors=True)
        parent.send(("done", number, *said))
    parent.send(("ended", numbers.stop))


def _memory() -> int:
    """The most that this process had at a time, bytes; not `ru_maxrss`, which begins with the most of its parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
