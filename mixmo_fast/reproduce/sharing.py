"""Where a run may start when several share a GPU: where there is a place, and memory for it.

Nobody knows beforehand what a run takes. The first run on a GPU has it for itself for an epoch, which then says its
peak; from there on others join it, as many as the memory holds. A configuration that was not measured yet is expected
to take what the measured ones take, and more in proportion where it computes more.

Units: bytes.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mixmo_fast.reproduce.gpu_memory import peak_of
from mixmo_fast.reproduce.jobs import Launch, Notify, epochs_done, note_shared
from mixmo_fast.reproduce.plan import PlannedRun

LOOK_AGAIN = 30.0
"""Seconds after which it is asked again whether there is room, unless a run has ended meanwhile."""

_BESIDE_TENSORS = 2**30  # CUDA's context, libraries and kernels of a process, which torch does not count


@dataclass
class _Tenant:
    """A run on a GPU, the epochs it had when it came, and whether another was there with it."""

    run: PlannedRun
    epochs_before: int
    has_shared: bool = False


class Places:
    """The places that runs are trained in: `launch.workers`, of which `launch.runs_per_gpu` are on each GPU.

    Args:
        runs: All that are to be trained; what they have measured in an earlier reproduction counts.
        launch: How.
        notify: Told in one line why a run has to wait.
        free_bytes: Of a GPU, by its number from 0; None where it cannot be known: then memory is not asked about.
    """

    def __init__(
        self, runs: Sequence[PlannedRun], launch: Launch, notify: Notify, free_bytes: Callable[[int], int | None]
    ):
        self._launch, self._notify, self._free_bytes = launch, notify, free_bytes
        gpus = (launch.workers or 1) // launch.runs_per_gpu
        self._tenants: dict[int, list[_Tenant]] = {gpu: [] for gpu in range(gpus)}
        self._peaks: dict[str, tuple[PlannedRun, int]] = {}
        self._alone: set[tuple[str, int]] = set()
        self._told_of: set[tuple[str, int]] = set()
        self._can_be_known: bool | None = None
        self._not_before = 0.0
        if launch.runs_per_gpu > 1:
            for run in runs:
                self._measure(run)

    @property
    def any_free(self) -> bool:
        """Whether there is a place at all."""
        return any(len(there) < self._launch.runs_per_gpu for there in self._tenants.values())

    def choose(self, run: PlannedRun) -> int | None:
        """The GPU (or on a CPU, the worker) for a run, the emptiest; None while it has to wait."""
        now = time.monotonic()
        if now < self._not_before:
            return None
        refusal = ""
        for gpu, there in sorted(self._tenants.items(), key=lambda item: len(item[1])):
            if len(there) < self._launch.runs_per_gpu:
                refusal = self._refusal(run, gpu, there)
                if not refusal:
                    return gpu
        self._not_before = now + LOOK_AGAIN
        if run.key not in self._told_of:
            self._told_of.add(run.key)
            self._notify(f"{run.name}, seed {run.seed}: waits: {refusal}")
        return None

    def enter(self, run: PlannedRun, gpu: int) -> None:
        """A run is started on a GPU."""
        there = self._tenants[gpu]
        there.append(_Tenant(run, self._epochs(run)))
        if len(there) > 1:
            for tenant in there:
                tenant.has_shared = True
                note_shared(tenant.run, self._launch.out)

    def leave(self, run: PlannedRun, gpu: int) -> bool:
        """A run has ended there; whether it shared the GPU with another."""
        (tenant,) = (one for one in self._tenants[gpu] if one.run.key == run.key)
        self._measure(run)
        there = self._tenants.pop(gpu)
        self._tenants[gpu] = [one for one in there if one is not tenant]  # the place that is free longest comes first
        self._not_before = 0.0
        return tenant.has_shared

    def want_alone(self, run: PlannedRun) -> bool:
        """From now on a run gets a GPU for itself alone; whether that is new."""
        is_new = run.key not in self._alone
        self._alone.add(run.key)
        self._told_of.discard(run.key)
        return is_new

    def _refusal(self, run: PlannedRun, gpu: int, there: Sequence[_Tenant]) -> str:
        """Why a run may not join those on a GPU; empty where it may."""
        if not there:
            return ""
        if run.key in self._alone:
            return "it gets a GPU for itself, and none is empty"
        for tenant in there:
            if tenant.run.key in self._alone:
                return f"{tenant.run.name}, seed {tenant.run.seed}, has GPU {gpu} for itself"
        for tenant in there:
            self._measure(tenant.run)
        needed = self._expected(run)
        newcomers = [one.run for one in there if self._epochs(one.run) <= one.epochs_before]
        if needed is None:
            if not newcomers or not self._is_free_memory_known(gpu):  # who has ended an epoch will not say it any more
                return ""
            first = f"{newcomers[0].name}, seed {newcomers[0].seed}"
            return f"an epoch of {first} is to show first how much memory a run takes on GPU {gpu}"
        free = self._free_bytes(gpu)
        if free is None:
            return ""
        promised = sum(self._expected(one) or 0 for one in newcomers)
        if needed <= free - promised:
            return ""
        besides = f", of which runs that have just begun may take {_size(promised)}" if promised else ""
        return f"it may take {_size(needed)} of memory, and GPU {gpu} has {_size(free)} free{besides}"

    def _is_free_memory_known(self, gpu: int) -> bool:
        """Asked once: asking takes a process and some seconds, and waiting for an epoch may be long."""
        if self._can_be_known is None:
            self._can_be_known = self._free_bytes(gpu) is not None
        return self._can_be_known

    def _expected(self, run: PlannedRun) -> int | None:
        """What a run may take: what its configuration took, or else the dearest guess from others; None: no idea."""
        if run.name in self._peaks:
            return self._peaks[run.name][1] + _BESIDE_TENSORS
        work = run.config.batch.rows * run.size.macs
        guesses = [
            int(peak * max(1.0, work / (other.config.batch.rows * other.size.macs)))
            for other, peak in self._peaks.values()
        ]
        return max(guesses) + _BESIDE_TENSORS if guesses else None

    def _measure(self, run: PlannedRun) -> None:
        peak = peak_of(run.folder(self._launch.out))
        if peak is not None:
            _, before = self._peaks.get(run.name, (run, 0))
            self._peaks[run.name] = run, max(peak, before)

    def _epochs(self, run: PlannedRun) -> int:
        return epochs_done(run.folder(self._launch.out))


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
