"""Which runs there are under a folder: those that a reproduction planned, or all run folders inside."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mixmo_fast.config.load import load_config
from mixmo_fast.config.schema import Config
from mixmo_fast.errors import MixmoError
from mixmo_fast.reproduce.plan import PLAN, PlannedRun, ReproductionPlan, read_plan
from mixmo_fast.reproduce.targets import full_length, title_of
from mixmo_fast.runfolder.names import BESIDE_CONFIG, CONFIG, is_run_folder
from pipelines.datasets.catalog import DATASETS


@dataclass(frozen=True)
class FoundRun:
    """A run that is in a folder, or should be.

    Attributes:
        folder: Its run folder, which may not be there yet.
        planned: What it is to be: as the reproduction's plan says, or as the folder's configuration does.
        config: As the run itself resolved it, or else as it was planned.
    """

    folder: Path
    planned: PlannedRun
    config: Config


def find_runs(places: Sequence[Path]) -> tuple[FoundRun, ...]:
    """The runs in folders: of a reproduction (where `plan.json` is) all that are planned, else all run folders inside.

    Args:
        places: Reproductions, run folders, or folders of them at any depth; a run in several of them counts once.

    Returns:
        In the order of the places and plans, else by path.

    Raises:
        MixmoError: When there is no run in one of the places, or a plan or a configuration cannot be read.
    """
    found: dict[Path, FoundRun] = {}
    for place in places:
        if not place.is_dir():
            raise MixmoError(f"{place}: no such folder; allowed: a reproduction, a run folder, or a folder of them")
        here = list(_runs_in(place))
        if not here:
            raise MixmoError(
                f"{place}: no runs in it; allowed: a reproduction ({PLAN}), or run folders ({CONFIG} with one of "
                f"{', '.join(BESIDE_CONFIG)}) at any depth"
            )
        for run in here:
            found.setdefault(run.folder.resolve(), run)
    return tuple(found.values())


def runs_of_plan(plan: ReproductionPlan, out: Path) -> tuple[FoundRun, ...]:
    """The runs of a reproduction in a folder, those that have not begun included."""
    found = []
    for planned in plan.runs:
        folder = planned.folder(out)
        own = folder / CONFIG
        found.append(FoundRun(folder, planned, load_config(own) if own.is_file() else planned.config))
    return tuple(found)


def known_work(planned: PlannedRun) -> float | None:
    """FLOP of the whole training; None for a data set whose size is nowhere written down."""
    return float(planned.flop) if planned.dataset in DATASETS or planned.own_data else None


def _runs_in(place: Path) -> Iterator[FoundRun]:
    for root, folders, _ in os.walk(place):
        folder = Path(root)
        if (folder / PLAN).is_file():
            folders.clear()
            yield from runs_of_plan(read_plan(folder), folder)
        elif is_run_folder(folder):
            folders.clear()
            config = load_config(folder / CONFIG)
            yield FoundRun(folder, _as_planned(folder.resolve().name, config), config)
        folders[:] = sorted(name for name in folders if not name.startswith("."))


def _as_planned(name: str, config: Config) -> PlannedRun:
    """A run that nobody planned, as a plan would have it."""
    full_epochs, published = full_length(name, config)
    scale = min(1.0, config.schedule.epochs / full_epochs)
    return PlannedRun(
        name=name,
        seed=config.seed,
        title=title_of(config),
        config=config,
        scale=scale,
        full_epochs=full_epochs,
        published=published,
    )
