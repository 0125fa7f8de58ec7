"""A folder that is asked for more: runs are added to its plan, and what it holds is mixed with nothing else."""

import contextlib
import fcntl
from pathlib import Path

from mixmo_fast.config.schema import SCIENCE
from mixmo_fast.config.words import differences
from mixmo_fast.errors import ConfigError
from mixmo_fast.files import appending
from mixmo_fast.reproduce.plan import PLAN, ReproductionPlan, read_plan, write_plan

LOCK = ".plan.lock"


def extend(old: ReproductionPlan, new: ReproductionPlan, out: Path) -> ReproductionPlan:
    """The plan of a folder that already has one, once more is asked for.

    Runs are added; one that is there already may change in how it is computed or evaluated, never in what it computes.

    Raises:
        ConfigError: When it would mix two scales, or when a run of the same name and seed has other settings.
    """
    if new.scale != old.scale:
        raise ConfigError(
            f"--scale: {out} holds runs at scale {old.scale:g}, now {new.scale:g} is asked for; use another --out"
        )
    runs = {run.key: run for run in old.runs}
    for run in new.runs:
        planned = runs.get(run.key, run)
        for section in SCIENCE:
            has, asked = (getattr(one.config, section) for one in (planned, run))
            if has != asked:
                raise ConfigError(
                    f"{out}: {run.name} is planned there with other settings "
                    f"({differences(section, has, asked)}); use another --out"
                )
        runs[run.key] = run
    requests = dict.fromkeys((*old.requests, *new.requests))
    return ReproductionPlan(requests=tuple(requests), runs=tuple(runs.values()))


def update_plan(new: ReproductionPlan, out: Path) -> ReproductionPlan:
    """Adds to the plan of a folder, or begins one, and writes it; one process after the other.

    Returns:
        The whole plan.

    Raises:
        ConfigError: As `extend`.
        MixmoError: When something cannot be read or written.
    """
    with appending(out / LOCK) as lock:
        with contextlib.suppress(OSError):  # without locks it is still written at once
            fcntl.flock(lock, fcntl.LOCK_EX)
        plan = extend(read_plan(out), new, out) if (out / PLAN).is_file() else new
        write_plan(plan, out)
    return plan
