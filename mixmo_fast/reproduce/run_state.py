"""How far a run is, read from its folder alone, at any moment of its life.

Nobody keeps a list of who does what: an epoch is over when its line is whole in `metrics.jsonl`, a run when its
`summary.json` is there, it is going on while a process holds its lock, and it has failed when an engine left
`failed.txt`. So every shell and every machine that sees the folder sees the same, and nothing can go out of step.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mixmo_fast.errors import MixmoError, printable
from mixmo_fast.reproduce.plan import PlannedRun
from mixmo_fast.runfolder.history import read_progress
from mixmo_fast.runfolder.lock import lock_owner
from mixmo_fast.runfolder.names import FAILED, SUMMARY, has_begun
from mixmo_fast.runfolder.record import read_bytes
from mixmo_fast.runfolder.records import Epoch

Status = Literal["complete", "running", "stopped", "waiting", "failed"]


@dataclass(frozen=True)
class RunState:
    """How far a run is.

    Attributes:
        name: The configuration's.
        seed: The run's.
        status: `waiting` has not begun, `stopped` has, and nobody goes on with it now.
        epoch: Epochs that are over.
        epochs: E, with which it is complete.
        loss: Of the last of them, in nats.
        last_top1: Of the last that was evaluated, a fraction.
        best_top1: The highest so far, a fraction.
        rows_per_second: Of training; median over the epochs.
        train_seconds: Of all epochs so far.
        seconds_per_epoch: Training and evaluation; None before the first is over.
        owner: Who trains it now.
        error: One line on why it failed.
    """

    name: str
    seed: int
    status: Status
    epoch: int
    epochs: int
    loss: float | None = None
    last_top1: float | None = None
    best_top1: float | None = None
    rows_per_second: float | None = None
    train_seconds: float = 0.0
    seconds_per_epoch: float | None = None
    owner: str | None = None
    error: str | None = None

    @property
    def seconds_left(self) -> float | None:
        """To the end at its own pace, of a run that may be gone on with; None where nothing of it was measured."""
        if self.status == "complete":
            return 0.0
        if self.status == "failed" or self.seconds_per_epoch is None:
            return None
        return self.seconds_per_epoch * max(0, self.epochs - self.epoch)


def read_state(folder: Path, planned: PlannedRun) -> RunState:
    """Reads how far a run is; a folder that is missing is a run that waits.

    Files may be written meanwhile. One that is damaged beyond that makes the run a failed one, with the damage as its
    error, so that one bad file does not hide the other runs.

    Args:
        folder: The run folder.
        planned: Its name, seed and epochs.
    """
    # The lock first: a run that ends between the looks is then seen as complete, and never as stopped.
    owner = lock_owner(folder)
    try:
        summary, history = read_progress(folder)
    except MixmoError as damage:
        return RunState(planned.name, planned.seed, "failed", 0, planned.epochs, owner=owner, error=str(damage))
    error = _first_line(folder / FAILED)
    # A run whose number of epochs was raised has the summary of the shorter one until it ends again; one that was
    # refused after it had ended, because other settings were asked for, has failed nevertheless.
    # So has one whose epochs were lost: the same command writes them anew from its checkpoint.
    ended_at = min(summary.epochs or 0, history[-1].epoch) if summary and history else 0
    has_ended = ended_at >= planned.epochs
    if has_ended and (error is None or _is_newer(folder / SUMMARY, folder / FAILED)):
        return _state(planned, "complete", history)
    if owner is not None:
        return _state(planned, "running", history, owner=owner)
    if error is not None:
        return _state(planned, "failed", history, error=error)
    return _state(planned, "stopped" if has_begun(folder) else "waiting", history)


def sum_of_seconds_left(states: Sequence[RunState], work: Mapping[tuple[str, int], float]) -> tuple[float, int]:
    """The time that all runs still take, one after the other.

    A run that was not measured itself takes what the other seeds of its configuration take; where there are none, and
    its work is known, what the median of all measured runs takes for as much work.

    Args:
        states: Of all runs; those that are complete or failed count nothing.
        work: FLOP of a whole training by name and seed, as far as they are known.

    Returns:
        Seconds, and the number of runs that nothing is known of.
    """
    pace: dict[str, list[float]] = {}
    by_work: list[float] = []
    for state in states:
        if state.seconds_per_epoch is not None:
            pace.setdefault(state.name, []).append(state.seconds_per_epoch)
            if flop := work.get((state.name, state.seed)):
                by_work.append(state.seconds_per_epoch * state.epochs / flop)
    total, unknown = 0.0, 0
    for state in states:
        if state.status in ("complete", "failed"):
            continue
        flop = work.get((state.name, state.seed))
        left = max(0, state.epochs - state.epoch)
        if state.seconds_per_epoch is not None:
            total += state.seconds_per_epoch * left
        elif state.name in pace:
            total += statistics.median(pace[state.name]) * left
        elif by_work and flop:
            total += statistics.median(by_work) * flop * left / state.epochs
        else:
            unknown += 1
    return total, unknown


def _state(
    planned: PlannedRun, status: Status, history: Sequence[Epoch], owner: str | None = None, error: str | None = None
) -> RunState:
    top1 = [row.top1 for row in history if row.top1 is not None]
    speeds = [row.rows_per_second for row in history if row.rows_per_second is not None]
    trained = [row.train_seconds for row in history if row.train_seconds is not None]
    pace = None
    if trained:
        # The median, because a first epoch may compile; evaluations are spread over the epochs between them.
        pace = statistics.median(trained) + sum(row.test_seconds or 0.0 for row in history) / len(history)
    return RunState(
        name=planned.name,
        seed=planned.seed,
        status=status,
        epoch=history[-1].epoch if history else 0,
        epochs=planned.epochs,
        loss=history[-1].train_loss if history else None,
        last_top1=top1[-1] if top1 else None,
        best_top1=max(top1, default=None),
        rows_per_second=statistics.median(speeds) if speeds else None,
        train_seconds=sum(trained),
        seconds_per_epoch=pace,
        owner=owner,
        error=error,
    )


def _first_line(path: Path) -> str | None:
    """Of a small text file, printable; None where there is none that can be read, or nothing in it yet."""
    try:
        lines = (read_bytes(path) or b"").decode(errors="replace").split("\n")
    except MixmoError:
        return None
    return next((printable(line.strip()) for line in lines if line.strip()), None)


def _is_newer(one: Path, other: Path) -> bool:
    try:
        return one.stat().st_mtime_ns > other.stat().st_mtime_ns
    except OSError:  # removed this moment
        return True
