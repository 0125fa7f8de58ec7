"""The engine of one machine: a child process for each run, as many as asked for on each GPU, or on a CPU.

A child that crashes takes nothing with it: the run goes on from its last checkpoint in a new one. The parent is one
loop in one thread, because the kernel ends children with the thread that started them.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence

from mixmo_fast.cores import available_cores
from mixmo_fast.files import appending
from mixmo_fast.reproduce.backlog import Backlog
from mixmo_fast.reproduce.child import arguments_of
from mixmo_fast.reproduce.gpu_memory import free_on_gpu
from mixmo_fast.reproduce.jobs import Ended, Launch, Notify, Outcome, last_line, stopped_by_signals
from mixmo_fast.reproduce.mps import multi_process_service
from mixmo_fast.reproduce.plan import PlannedRun
from mixmo_fast.reproduce.sharing import Places
from mixmo_fast.runfolder.names import LOG

_LOOK_EVERY = 0.1
_GRACE = 10.0  # seconds for children to end by themselves

_OUT_OF_MEMORY = ("out of memory", "ALLOC_FAILED")  # of CUDA and torch; of cuBLAS and cuDNN

Child = tuple[PlannedRun, int, subprocess.Popen]


def run_local(runs: Sequence[PlannedRun], launch: Launch, notify: Notify) -> tuple[Outcome, ...]:
    """Trains all runs on this machine; call it in the main thread.

    Args:
        runs: Whose configurations are written below `launch.out`.
        launch: `launch.workers` children run at the same time.
        notify: Told in one line of what happens.

    Returns:
        What became of each run, in their order.

    Raises:
        KeyboardInterrupt: On Ctrl-C, SIGTERM or SIGHUP, after all children have ended.
    """
    backlog = Backlog(runs, launch, notify)
    next_run: PlannedRun | None = None
    running: list[Child] = []
    with stopped_by_signals(), contextlib.ExitStack() as stack:
        more = stack.enter_context(multi_process_service(notify)) if launch.runs_per_gpu > 1 else {}
        environment = os.environ | more
        places = Places(runs, launch, notify, lambda gpu: free_on_gpu(child_environment(environment, gpu, launch))[0])
        try:
            while backlog.unfinished:
                while places.any_free and (next_run := next_run or backlog.take()) is not None:
                    place = places.choose(next_run)
                    if place is None:
                        break
                    places.enter(next_run, place)
                    running.append((next_run, place, _start(next_run, place, launch, environment)))
                    next_run = None
                for run, place, child in list(running):
                    if child.poll() is not None:
                        running.remove((run, place, child))
                        _signal(child, signal.SIGKILL)  # what a child that was killed left behind
                        _settle(backlog, places, run, place, child.returncode, launch)
                if running or backlog.unfinished:
                    time.sleep(_LOOK_EVERY)
        finally:
            _stop([child for _, _, child in running])
    return backlog.outcomes()


def _start(run: PlannedRun, place: int, launch: Launch, environment: Mapping[str, str]) -> subprocess.Popen:
    folder = run.folder(launch.out)
    command = arguments_of(run.config_path(launch.out), folder, launch.data, launch.device, launch.pipeline)
    with appending(folder / LOG) as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=child_environment(environment, place, launch),
            start_new_session=True,  # Ctrl-C reaches the parent alone, and a child's own children are in its group
        )


def child_environment(environment: Mapping[str, str], place: int, launch: Launch) -> dict[str, str]:
    """What a child's environment is: its GPU, or its share of the cores.

    Args:
        environment: The parent's; where it names visible devices, or a number of threads, these are what is shared.
        place: Number of the GPU, or of the worker, from 0.
        launch: Its device and workers.
    """
    changed = dict(environment)
    if launch.device == "cuda":
        visible = environment.get("CUDA_VISIBLE_DEVICES", "")
        devices = [name.strip() for name in visible.split(",") if name.strip()]
        changed["CUDA_VISIBLE_DEVICES"] = devices[place] if devices else str(place)
    elif launch.workers is not None and launch.workers > 1:
        changed.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // launch.workers)))
    return changed


def _settle(backlog: Backlog, places: Places, run: PlannedRun, place: int, code: int, launch: Launch) -> None:
    """Tells the backlog how a child ended."""
    has_shared = places.leave(run, place)
    line = last_line(run.folder(launch.out) / LOG)
    if code == Ended.COMPLETE:
        backlog.complete(run)
    elif code == Ended.MENDABLE:
        backlog.failed(run, line)
    elif code == Ended.HELD:
        backlog.held(run, "another process")
    elif code < 0:
        with contextlib.suppress(ValueError):  # a real-time signal has no name
            line = f"killed by {signal.Signals(-code).name}"
        backlog.crashed(run, line if line.startswith("killed") else f"killed by signal {-code}")
    elif has_shared and any(words in line for words in _OUT_OF_MEMORY) and places.want_alone(run):
        backlog.again(run, f"{line}; again, with a GPU for itself")
    else:
        backlog.crashed(run, f"exit code {code}: {line}")


def _signal(child: subprocess.Popen, number: signal.Signals) -> None:
    """To a child and to all that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)


def _stop(children: Sequence[subprocess.Popen]) -> None:
    """Ends children, who save where they are when they are asked; nothing is lost but what takes longer than that."""
    for child in children:
        _signal(child, signal.SIGTERM)
    until = time.monotonic() + _GRACE
    for child in children:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=max(0.0, until - time.monotonic()))
        _signal(child, signal.SIGKILL)
        child.wait()
