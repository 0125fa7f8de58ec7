"""What the two engines share: how runs are launched, and how one run is trained inside a worker, whatever started it.

An engine gets runs and brings back an `Outcome` for each. A worker, a child process or a Ray task, calls `train_one`
and nothing else; what it then reports is one of the few things an engine has to tell apart.
"""

import contextlib
import io
import os
import signal
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import TextIO

from mixmo_fast.config.load import load_config
from mixmo_fast.config.schema import SCIENCE
from mixmo_fast.errors import MixmoError, printable
from mixmo_fast.files import appending, open_own, write_text
from mixmo_fast.reproduce.plan import PlannedRun
from mixmo_fast.runfolder.lock import RunHeldError
from mixmo_fast.runfolder.names import CONFIG, FAILED, LOG, METRICS, SHARED_GPU, SUMMARY
from mixmo_fast.runfolder.record import read_bytes, read_record
from mixmo_fast.runfolder.records import RunSummary

PROGRAM = "mixmo-fast"
"""What its errors begin with, in logs as on the terminal."""

Notify = Callable[[str], None]


class Ended(IntEnum):
    """How a worker ended, as the exit code of a process; any other, or a signal, is a crash."""

    COMPLETE = 0
    MENDABLE = 2  # a person has to do something: the same as of all commands
    HELD = 75  # EX_TEMPFAIL of sysexits.h: another process is training the run


@dataclass(frozen=True)
class Launch:
    """How runs are trained.

    Attributes:
        out: The reproduction's folder, absolute.
        data: Folder of data sets, absolute.
        device: `cuda` or `cpu`.
        workers: Runs at the same time, on all GPUs together; for Ray at most so many, None: as many as the cluster has
            room for.
        pipeline: How pixels reach the device.
        retries: How often in a row a run that crashes without having got an epoch further is started again.
        pause: Seconds before the first of these, doubled for each that follows.
        runs_per_gpu: How many of them share a GPU; 1 on a CPU.
    """

    out: Path
    data: Path
    device: str
    workers: int | None
    pipeline: str = "resident"
    retries: int = 3
    pause: float = 2.0
    runs_per_gpu: int = 1


@dataclass(frozen=True)
class Outcome:
    """What became of one run.

    Attributes:
        name: Of the configuration.
        seed: Of the run.
        status: `complete`; `failed`, which a person has to mend; `stopped`, after it crashed too often.
        line: Why it is not complete, one line; empty where it is.
    """

    name: str
    seed: int
    status: str
    line: str = ""


def is_complete(run: PlannedRun, out: Path) -> bool:
    """Whether a run folder holds the finished run of this very plan; a worker that is started would find nothing to do.

    A finished run of other settings is not: the worker then refuses it, saying what differs.
    """
    folder = run.folder(out)
    try:
        summary = read_record(folder / SUMMARY, RunSummary)
        if summary is None or (summary.epochs or 0) < run.epochs:
            return False
        trained = load_config(folder / CONFIG)
    except MixmoError:
        return False
    return all(getattr(trained, section) == getattr(run.config, section) for section in SCIENCE)


def epochs_done(folder: Path) -> int:
    """Whole epochs in a run folder's `metrics.jsonl`, a line each; 0 where there is none."""
    try:
        return (read_bytes(folder / METRICS) or b"").count(b"\n")
    except MixmoError:
        return 0


def fail(run: PlannedRun, out: Path, line: str) -> Outcome:
    """Notes in the run folder that a run needs a person, and why."""
    one_line = " ".join(line.split())
    with contextlib.suppress(MixmoError):  # a full disk may be the very reason
        write_text(run.folder(out) / FAILED, one_line + "\n")
    return Outcome(run.name, run.seed, "failed", one_line)


def forget_failure(run: PlannedRun, out: Path) -> None:
    """Removes the note of `fail`, since the run is started again."""
    with contextlib.suppress(OSError):
        (run.folder(out) / FAILED).unlink()


def note_shared(run: PlannedRun, out: Path) -> None:
    """Notes in the run folder that a run has not had its GPU for itself, so that its speed is not the GPU's."""
    path = run.folder(out) / SHARED_GPU
    with contextlib.suppress(MixmoError):
        if not path.exists():
            write_text(path, "other runs were trained on the same GPU at the same time: rows/s are of a share of it\n")


def train_one(config: Path, launch: Launch, run_folder: Path) -> tuple[Ended | None, str]:
    """Trains one run in this process, or continues it; everything it prints is appended to the run folder's log.

    Args:
        config: The run's configuration, complete, named as the run folder.
        launch: How.
        run_folder: Where it goes.

    Returns:
        How it ended, and a line that says why it is not complete; None for how: a defect or an accident, whose
        traceback is in the log.
    """
    from rich.console import Console

    if not config.is_file():
        return Ended.MENDABLE, _unseen(config)
    try:
        log = io.TextIOWrapper(appending(run_folder / LOG), encoding="utf-8", line_buffering=True)
    except MixmoError as error:
        return Ended.MENDABLE, str(error)
    with log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        print(f"--- {now}, process {os.getpid()} on {socket.gethostname()}")
        try:
            from mixmo_fast.run.train import train_run

            train_run(
                config,
                Console(file=log, width=160),
                data=launch.data,
                runs=run_folder.parent,
                pipeline=launch.pipeline,
                device=launch.device,
                report=False,
            )
        except RunHeldError as error:
            return Ended.HELD, _say(log, error)
        except MixmoError as error:
            return Ended.MENDABLE, _say(log, error)
        except Exception as error:
            traceback.print_exc(file=log)
            reason = " ".join(str(error).split())[:300]
            return None, f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    return Ended.COMPLETE, ""


def _say(log: TextIO, error: MixmoError) -> str:
    line = " ".join(str(error).split())
    print(f"{PROGRAM}: {line}", file=log)
    return line


def last_line(path: Path) -> str:
    """The last line of a log that says something, without the program's name; empty where there is none."""
    try:
        with os.fdopen(open_own(path, os.O_RDONLY), "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    line = next((printable(line.strip()) for line in reversed(lines) if line.strip()), "")
    return line.removeprefix(f"{PROGRAM}: ")


def _unseen(config: Path) -> str:
    return (
        f"{config}: the worker on {socket.gethostname()} does not see this file; all machines must share --out and "
        "--data, under the same paths"
    )


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Lets SIGTERM and SIGHUP end a block as Ctrl-C does, by `KeyboardInterrupt`, so that it can clean up."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may ask for signals
        return

    def stop(number: int, _: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
