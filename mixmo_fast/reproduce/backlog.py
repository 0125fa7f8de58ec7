"""The runs that an engine still has to see to: which is next, which is tried again and when, and what became of each.

Engines start workers and see them end; every decision about it is made here, the same for both.
"""

import time
from collections import deque
from collections.abc import Sequence

from mixmo_fast.reproduce.jobs import Launch, Notify, Outcome, epochs_done, fail, forget_failure, is_complete
from mixmo_fast.reproduce.plan import PlannedRun
from mixmo_fast.runfolder.lock import lock_owner
from mixmo_fast.runfolder.names import LOG

LOOK_AGAIN = 5.0
"""Seconds after which it is asked again whether another process still trains a run."""

_LONGEST_PAUSE = 300.0


class Backlog:
    """Takes care that each run ends with exactly one outcome.

    Args:
        runs: In the order in which they are wanted.
        launch: How they are trained.
        notify: Told in one line of what a person may want to know.
    """

    def __init__(self, runs: Sequence[PlannedRun], launch: Launch, notify: Notify):
        self._runs = tuple(runs)
        self._launch, self._notify = launch, notify
        self._ready = deque(self._runs)
        self._later: list[tuple[float, PlannedRun]] = []
        self._crashes: dict[tuple[str, int], int] = {}
        self._epochs: dict[tuple[str, int], int] = {}
        self._told_of: set[tuple[str, int]] = set()
        self._outcomes: dict[tuple[str, int], Outcome] = {}

    @property
    def unfinished(self) -> bool:
        """Whether a run has no outcome yet."""
        return len(self._outcomes) < len(self._runs)

    def outcomes(self) -> tuple[Outcome, ...]:
        """Those there are, in the order of the runs."""
        return tuple(self._outcomes[run.key] for run in self._runs if run.key in self._outcomes)

    def take(self) -> PlannedRun | None:
        """The next run that a worker should train now; None when there is none at this moment.

        Complete runs are never given out, and those that another process trains are waited for.
        """
        now = time.monotonic()
        self._ready.extend(run for due, run in self._later if due <= now)
        self._later = [(due, run) for due, run in self._later if due > now]
        while self._ready:
            run = self._ready.popleft()
            if is_complete(run, self._launch.out):
                self.complete(run, already=run.key not in self._told_of and run.key not in self._epochs)
                continue
            owner = lock_owner(run.folder(self._launch.out))
            if owner is None:
                forget_failure(run, self._launch.out)
                self._epochs.setdefault(run.key, self._done(run))
                return run
            self.held(run, owner)
        return None

    def complete(self, run: PlannedRun, already: bool = False) -> None:
        """A run is finished."""
        self._notify(f"{_name(run)}: {'was complete already' if already else 'complete'}")
        self._outcomes[run.key] = Outcome(run.name, run.seed, "complete")

    def held(self, run: PlannedRun, owner: str) -> None:
        """Another process is training a run: it is asked for again after a while."""
        if run.key not in self._told_of:
            self._told_of.add(run.key)
            self._notify(f"{_name(run)}: waiting, {owner} is training it")
        self._later.append((time.monotonic() + LOOK_AGAIN, run))

    def failed(self, run: PlannedRun, line: str) -> None:
        """A run ended in a way that trying again cannot mend."""
        self._outcomes[run.key] = fail(run, self._launch.out, line)
        self._notify(f"{_name(run)}: failed: {line}")

    def again(self, run: PlannedRun, why: str) -> None:
        """A run is tried once more, after those that have not begun, and this does not count as a crash."""
        self._notify(f"{_name(run)}: {why}")
        self._ready.append(run)

    def crashed(self, run: PlannedRun, how: str) -> None:
        """A run ended by accident: it is tried again, unless it crashed too often without getting further."""
        now = self._done(run)
        further = now > self._epochs[run.key]
        crashes = self._crashes[run.key] = 1 if further else self._crashes.get(run.key, 0) + 1
        self._epochs[run.key] = max(now, self._epochs[run.key])
        retries, log = self._launch.retries, run.folder(self._launch.out) / LOG
        if crashes > retries:
            self.given_up(run, f"{how}; crashed {crashes} times in epoch {now + 1}")
            return
        pause = min(_LONGEST_PAUSE, self._launch.pause * 2 ** (crashes - 1))
        self._notify(f"{_name(run)}: {how}; again in {pause:g} s ({crashes} of {retries}), see {log}")
        self._later.append((time.monotonic() + pause, run))

    def given_up(self, run: PlannedRun, line: str) -> None:
        """A run crashed too often; the next reproduction tries it again."""
        line = f"{line}, see {run.folder(self._launch.out) / LOG}"
        self._outcomes[run.key] = Outcome(run.name, run.seed, "stopped", line)
        self._notify(f"{_name(run)}: stopped: {line}")

    def _done(self, run: PlannedRun) -> int:
        return epochs_done(run.folder(self._launch.out))


def _name(run: PlannedRun) -> str:
    return f"{run.name}, seed {run.seed}"
