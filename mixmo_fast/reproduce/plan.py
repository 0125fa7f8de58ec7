"""What a reproduction consists of: every run with its seed and its work, kept in `plan.json` beside the runs.

The folder of a reproduction is the whole truth about it: `plan.json`, `configs/seed1/NAME.yaml`, and one ordinary run
folder for each run, `runs/seed1/NAME`. Nothing here imports torch, so that looking at a plan takes no time.

Units: rows are network inputs, MACs multiply-accumulates, FLOP floating-point operations, top-1 as published percent.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    computed_field,
    model_serializer,
)

from mixmo_fast.config.load import to_yaml
from mixmo_fast.config.schema import Config
from mixmo_fast.config.titles import network_title
from mixmo_fast.errors import ConfigError, MixmoError
from mixmo_fast.files import write_text
from mixmo_fast.reproduce.data_sets import require_known
from mixmo_fast.reproduce.own_data import OwnData, find_own_data
from mixmo_fast.reproduce.shorten import check_scale, shorten
from mixmo_fast.reproduce.targets import Experiment, find_experiments
from mixmo_fast.reproduce.work import NetworkSize, network_size
from mixmo_fast.runfolder.names import PLAN as PLAN
from mixmo_fast.runfolder.record import read_bytes
from pipelines.datasets.catalog import DatasetInfo, dataset_info

_LARGEST_SEED = 2**63 - 1
_MOST_SEEDS = 1000


def _whole_epochs(value: Any) -> Any:
    """JSON knows only text as keys: milestones' epochs become numbers again."""
    try:
        milestones = {int(epoch): factor for epoch, factor in value["schedule"]["milestones"].items()}
        return {**value, "schedule": {**value["schedule"], "milestones": milestones}}
    except (TypeError, KeyError, AttributeError, ValueError):
        return value  # for the schema to judge


class PlannedRun(BaseModel):
    """One run: a configuration with one seed."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(pattern=r"^[^/\\\x00]+$")
    """Of the configuration."""
    seed: int
    """Of everything random."""
    title: str
    """The run in the paper's words."""
    config: Annotated[Config, BeforeValidator(_whole_epochs)]
    """Complete: with seed, overrides, and the schedule as it is run."""
    scale: float = Field(gt=0, le=1)
    """Share of the schedule that is run."""
    full_epochs: int = Field(ge=1)
    """Length without any shortening; `epochs` is that of this run."""
    published: tuple[float, ...] | None
    """Published top-1 in percent, one figure or the lowest and highest; None: none, or not comparable."""
    own_data: OwnData | None = None
    """Of a data set that is not in the catalogue, as its folder was at that time; None: it is in it, or nobody knew."""

    @model_serializer(mode="wrap")
    def _without_what_is_not_told(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written = serialize(self)
        if self.own_data is None:
            del written["own_data"]
        return written

    @property
    def _data(self) -> "OwnData | DatasetInfo":
        return self.own_data or dataset_info(self.dataset)

    @computed_field
    @property
    def run_folder(self) -> str:
        """The run folder, relative to the reproduction's."""
        return f"runs/seed{self.seed}/{self.name}"

    @computed_field
    @property
    def config_file(self) -> str:
        """The configuration that is trained, relative to the reproduction's folder."""
        return f"configs/seed{self.seed}/{self.name}.yaml"

    @computed_field
    @property
    def dataset(self) -> str:
        """Its short name."""
        return self.config.data.dataset

    @computed_field
    @property
    def network(self) -> str:
        """Its name for people."""
        return network_title(self.config)

    @computed_field
    @property
    def members(self) -> int:
        """M."""
        return self.config.network.members

    @computed_field
    @property
    def epochs(self) -> int:
        """Epochs of this run."""
        return self.config.schedule.epochs

    @computed_field
    @property
    def rows(self) -> int:
        """Network input rows of the whole training."""
        return self.steps * self.config.batch.rows

    @computed_field
    @property
    def flop(self) -> int:
        """Floating-point operations of the whole training, forward and backward."""
        return self.rows * self.size.flop_per_row

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole training."""
        return self.epochs * self.config.steps_per_epoch(self._data.train_images)

    @property
    def size(self) -> NetworkSize:
        """Parameters, and multiply-accumulates of one row's forward pass."""
        return network_size(self.config.network, self._data.classes, self._data.height, self._data.width)

    @property
    def key(self) -> tuple[str, int]:
        """Name and seed, which tell runs of one reproduction apart."""
        return self.name, self.seed

    def folder(self, out: Path) -> Path:
        """The run folder."""
        return out / self.run_folder

    def config_path(self, out: Path) -> Path:
        """The configuration that is trained."""
        return out / self.config_file


class Request(BaseModel):
    """What one `mixmo-fast reproduce` asked for."""

    model_config = ConfigDict(frozen=True)

    targets: tuple[str, ...]
    """Names of groups, or configuration files."""
    seeds: tuple[int, ...]
    """In order."""
    scale: float = Field(gt=0, le=1)
    """Share of every schedule."""
    overrides: tuple[str, ...] = ()
    """`key=value` each."""

    def command(self, out: Path) -> str:
        """The command line that asks for it, without what does not change results."""
        seeds = ",".join(map(str, self.seeds)) + ("," if len(self.seeds) == 1 else "")
        words = ["mixmo-fast", "reproduce", *self.targets, "--seeds", seeds]
        words += ["--scale", f"{self.scale:g}"] if self.scale != 1 else []
        words += [word for override in self.overrides for word in ("--set", override)]
        return shlex.join([*words, "--out", str(out)])


class ReproductionPlan(BaseModel):
    """All runs of a reproduction, in the order of the paper's tables, seeds innermost."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    """Of this file."""
    requests: tuple[Request, ...]
    """What was asked for, the oldest first; the runs are those of all of them."""
    runs: tuple[PlannedRun, ...]
    """Each name and seed once."""

    @property
    def scale(self) -> float:
        """Share of every schedule, the same for all runs."""
        return self.requests[0].scale


def plan_reproduction(
    targets: Sequence[str],
    seeds: Sequence[int] = (1, 2, 3),
    scale: float = 1.0,
    overrides: Sequence[str] = (),
    data: Path = Path("data"),
) -> ReproductionPlan:
    """Every run that a reproduction takes.

    Args:
        targets: `cifar10`, `cifar100`, `tiny`, `fashion`, `all`, or configuration files.
        seeds: Each configuration is run once with each.
        scale: Share of each schedule, above 0, at most 1 (see `mixmo_fast.reproduce.shorten`).
        overrides: `key=value` each, for all runs, applied before the schedule is shortened.
        data: Folder of data sets, for those that are not in the catalogue.

    Raises:
        ConfigError: On a target, a seed, a scale or an override that cannot be used.
        DataError: On a data set that does not exist.
    """
    request = Request(targets=tuple(targets), seeds=tuple(seeds), scale=check_scale(scale), overrides=tuple(overrides))
    if any(override.partition("=")[0].strip() == "seed" for override in overrides):
        raise ConfigError("--set seed: each configuration is run with several seeds, which --seeds names")
    experiments = find_experiments(request.targets, request.overrides)
    require_known([one.config.data.dataset for one in experiments], data)
    runs = tuple(_planned(one, seed, scale, data) for one in experiments for seed in request.seeds)
    for run in runs:
        if run.steps < 1:
            raise ConfigError(f"{run.name}: batch.rows: an epoch of {run.dataset} does not fill one step")
    return ReproductionPlan(requests=(request,), runs=runs)


def parse_seeds(text: str) -> tuple[int, ...]:
    """`3` is the seeds 1, 2 and 3; `1,5` are those two, and `5,` is seed 5 alone.

    Raises:
        ConfigError: On anything else, on none, on a repeated one, or on more than a thousand.
    """
    parts = [part.strip() for part in text.strip().removesuffix(",").split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) <= _LARGEST_SEED for part in parts):
        raise ConfigError(f"--seeds: found {text!r}, allowed: a number of seeds such as 3, or seeds such as 1,5")
    seeds = tuple(map(int, parts))
    if "," not in text:
        if not 1 <= seeds[0] <= _MOST_SEEDS:
            raise ConfigError(f"--seeds: found {text!r}, allowed: 1 to {_MOST_SEEDS} seeds; `{text.strip()},` is one")
        return tuple(range(1, seeds[0] + 1))
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds: found {text!r}, allowed: each seed once")
    return seeds


def write_plan(plan: ReproductionPlan, out: Path) -> None:
    """Writes `plan.json`, at once, and the configuration of each run.

    Raises:
        MixmoError: When something cannot be written.
    """
    for run in plan.runs:
        _write_if_changed(run.config_path(out), f"# {run.title}, seed {run.seed}\n{to_yaml(run.config)}")
    _write_if_changed(out / PLAN, plan.model_dump_json(indent=1) + "\n")


def read_plan(out: Path) -> ReproductionPlan:
    """The plan of a reproduction's folder.

    Raises:
        MixmoError: When there is none, or none of this version.
    """
    path = out / PLAN
    content = read_bytes(path)
    if content is None:
        raise MixmoError(f"{path}: not there; is {out} the --out of a `mixmo-fast reproduce`?")
    try:
        return ReproductionPlan.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise MixmoError(
            f"{path}: not a plan of this version ({where + ': ' if where else ''}{first['msg']}); use another --out"
        ) from None


def _write_if_changed(path: Path, text: str) -> None:
    """Of hundreds of configurations, most are there already when a reproduction goes on."""
    if not (path.is_file() and path.read_bytes() == text.encode()):
        write_text(path, text)


def _planned(experiment: Experiment, seed: int, scale: float, data: Path) -> PlannedRun:
    config = shorten(experiment.config, scale).model_copy(update={"seed": seed})
    return PlannedRun(
        name=experiment.name,
        seed=seed,
        title=experiment.title,
        config=config,
        scale=scale,
        full_epochs=experiment.full_epochs,
        published=experiment.published,
        own_data=find_own_data(data, config.data.dataset),
    )
