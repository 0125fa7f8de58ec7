"""The engine of a cluster: each run a Ray task that asks for one GPU, or a share of one, wherever there is one.

All machines share the reproduction's folder and the data folder, under the same paths, and have mixmo-fast installed.
Ray starts the task of a worker or a machine that died again, and the run goes on from its last checkpoint.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

from mixmo_fast.cores import available_cores
from mixmo_fast.errors import DeviceError, MixmoError
from mixmo_fast.reproduce.backlog import Backlog
from mixmo_fast.reproduce.jobs import (
    Ended,
    Launch,
    Notify,
    Outcome,
    epochs_done,
    note_shared,
    stopped_by_signals,
    train_one,
)
from mixmo_fast.reproduce.plan import PlannedRun

_LOOK_EVERY = 0.5


def run_on_ray(runs: Sequence[PlannedRun], launch: Launch, notify: Notify) -> tuple[Outcome, ...]:
    """Trains all runs on the Ray cluster of `RAY_ADDRESS` or of this machine, or on one made for it here.

    Args:
        runs: Whose configurations are written below `launch.out`.
        launch: Its device is `auto`, `cuda` or `cpu`; at most `launch.workers` tasks are under way at the same time.
        notify: Told in one line of what happens.

    Returns:
        What became of each run, in their order.

    Raises:
        MixmoError: Without the package ray, or without a cluster at `RAY_ADDRESS`.
        DeviceError: For `cuda`, or several runs on a GPU, on a cluster without a GPU.
        KeyboardInterrupt: On Ctrl-C, SIGTERM or SIGHUP, after all tasks have been ended.
    """
    ray = _import_ray()
    with stopped_by_signals(), contextlib.redirect_stdout(_WithoutRay(sys.stdout)):
        try:
            _connect(ray, launch)
            with stopped_by_signals():  # once more, since Ray has put a handler of its own in its place
                return _run_all(ray, runs, launch, notify)
        finally:
            ray.shutdown()


def is_elsewhere() -> bool:
    """Whether `RAY_ADDRESS` names a cluster; one that this machine is part of is taken to see its folders."""
    return os.environ.get("RAY_ADDRESS", "auto") not in ("", "auto", "local")


def _run_all(ray: ModuleType, runs: Sequence[PlannedRun], launch: Launch, notify: Notify) -> tuple[Outcome, ...]:
    backlog = Backlog(runs, launch, notify)
    wants = _resources(ray, launch)
    task = ray.remote(_train)
    flying: dict[Any, tuple[PlannedRun, int]] = {}
    try:
        while backlog.unfinished:
            while launch.workers is None or len(flying) < launch.workers:
                run = backlog.take()
                if run is None:
                    break
                folder = run.folder(launch.out)
                if launch.runs_per_gpu > 1:  # who is beside it, only Ray knows
                    note_shared(run, launch.out)
                named = task.options(max_retries=launch.retries, name=f"{run.name}, seed {run.seed}", **wants)
                flying[named.remote(run.config_path(launch.out), launch, folder)] = run, epochs_done(folder)
            if not flying:
                time.sleep(_LOOK_EVERY)
                continue
            ended, _ = ray.wait(list(flying), timeout=_LOOK_EVERY)
            for reference in ended:
                _settle(ray, backlog, reference, *flying.pop(reference), launch)
    finally:
        for reference in flying:
            ray.cancel(reference, force=True)
    return backlog.outcomes()


def _train(config: Path, launch: Launch, run_folder: Path) -> tuple[Ended | None, str]:
    """The task."""
    return train_one(config, launch, run_folder)


def _settle(ray: ModuleType, backlog: Backlog, reference: Any, run: PlannedRun, epochs: int, launch: Launch) -> None:
    """Tells the backlog how a task ended."""
    try:
        ended, line = ray.get(reference)
    except ray.exceptions.RayTaskError as error:  # before `train_one`: the worker cannot even import it
        last = " ".join(str(error).strip().splitlines()[-1].split())
        backlog.failed(run, f"{last}; is this version of mixmo-fast installed on every machine of the cluster?")
        return
    except ray.exceptions.RayError as error:
        how = f"the worker died ({type(error).__name__})"
        if epochs_done(run.folder(launch.out)) > epochs:
            backlog.crashed(run, how)
        else:  # Ray itself has tried as often as allowed
            backlog.given_up(run, f"{how} {launch.retries + 1} times")
        return
    if ended is None:
        backlog.crashed(run, line)
    elif ended == Ended.COMPLETE:
        backlog.complete(run)
    elif ended == Ended.HELD:
        backlog.held(run, "another process")
    else:
        backlog.failed(run, line)


class _WithoutRay:
    """A stream without what Ray's own threads print to it: of dead workers the engine tells, and it tells more."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        """As of any stream."""
        if threading.current_thread().name.startswith("ray_"):
            return len(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _import_ray() -> ModuleType:
    # No report to its makers, no warning of how a future Ray will treat machines without a GPU, and no summary of
    # messages that were not printed (see `_WithoutRay`).
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise MixmoError(
            "--engine ray: the package ray is not installed: pip install 'mixmo-fast[cluster]' (or make setup-cluster)"
        ) from error
    return ray


def _connect(ray: ModuleType, launch: Launch) -> None:
    """Joins a cluster that there is, or starts one of this machine alone."""
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    address = os.environ.get("RAY_ADDRESS")
    try:
        ray.init(address=address or "auto", **quiet)
        return
    except ConnectionError as error:
        if address:
            raise MixmoError(f"RAY_ADDRESS={address}: no Ray cluster answers there ({error})") from error
    workers = launch.workers or 1
    ray.init(
        address="local",
        # Tasks that use no GPU ask for a share of the cores each, and a core is the least that Ray knows threads for.
        num_cpus=max(workers, available_cores()),
        include_dashboard=False,
        **quiet,
    )


def _resources(ray: ModuleType, launch: Launch) -> dict[str, float]:
    """What each task asks Ray for."""
    gpus = ray.cluster_resources().get("GPU", 0)
    if launch.device == "cuda" and gpus < 1:
        raise DeviceError("--device cuda: no machine of the Ray cluster has a GPU; use --device cpu or auto")
    if launch.runs_per_gpu > 1 and gpus < 1:
        raise DeviceError(
            f"--runs-per-gpu: found {launch.runs_per_gpu}, allowed: 1, since no machine of the Ray cluster has a GPU"
        )
    if launch.device != "cpu" and gpus >= 1:
        return {"num_gpus": 1 / launch.runs_per_gpu, "num_cpus": 1}
    smallest = min(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])
    return {"num_cpus": max(1, int(smallest // (launch.workers or 1)))}
