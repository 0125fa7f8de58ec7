"""What the training benchmark is asked for, and what follows from that on this machine.

Shapes: B rows, M members.
"""

import math
from dataclasses import dataclass, replace

import torch

from benchmarks.opponents import Opponent, opponents
from mixmo_fast.compilers import can_compile
from mixmo_fast.config.load import check_config
from mixmo_fast.config.schema import Config
from mixmo_fast.errors import ConfigError
from mixmo_fast.networks.kinds import KINDS, network_of_short_name
from mixmo_fast.networks.multi import MixMo
from mixmo_fast.run import build
from mixmo_fast.training.options import StepOptions, choose_options
from pipelines.datasets.catalog import DatasetInfo, dataset_info


@dataclass(frozen=True)
class TrainingBenchmark:
    """What is measured.

    Attributes:
        network: `wrn-D-K` or `res18-W`.
        members: M.
        rows: B.
        device: `auto`, `cpu` or `cuda`.
        precision: Of the default step, as in a configuration.
        repetitions: Turns of each contestant.
        seconds: Of each turn, at least.
        contestants: Names, separated by commas; None takes all.
        compile: Whether anything is compiled.
        ceiling: Whether to time the convolutions by themselves.
        stem: Whether to time the encoders by themselves.
        end_to_end: Whether to train with the reference's pipeline.
        workers: Processes of the reference's pipeline; 0 loads in this one.
    """

    network: str = "wrn-16-2"
    members: int = 2
    rows: int = 64
    device: str = "auto"
    precision: str = "auto"
    repetitions: int = 7
    seconds: float = 2.0
    contestants: str | None = None
    compile: bool = True
    ceiling: bool = True
    stem: bool = True
    end_to_end: bool = True
    workers: int = 0


@dataclass(frozen=True)
class Setting:
    """What follows from the options on this machine.

    Attributes:
        config: The paper's recipe.
        device: Where everything runs.
        info: Of the data set whose shape random images take.
        how: The default step.
        compiles: Whether anything is compiled.
        chosen: The contestants.
        same_as: Those left out: name -> the one that does the same.
        shapes: The network on `meta`.
    """

    config: Config
    device: torch.device
    info: DatasetInfo
    how: StepOptions
    compiles: bool
    chosen: list[Opponent]
    same_as: dict[str, str]
    shapes: MixMo


def make_setting(options: TrainingBenchmark) -> Setting:
    """Checks the options and decides what they leave open.

    Raises:
        MixmoError: On what cannot be measured.
    """
    for name, value, least in (("--repetitions", options.repetitions, 1), ("--workers", options.workers, 0)):
        if value < least:
            raise ConfigError(f"{name}: found {value}, allowed: a whole number at least {least}")
    if not 0 <= options.seconds < math.inf:
        raise ConfigError(f"--seconds: found {options.seconds}, allowed: a number at least 0")
    config = make_config(options)
    device = build.choose_device(options.device)
    # As in a long run; but what is called a graph has to be one.
    how = replace(choose_options(config.step, device, macs=math.inf), graph_required=True)
    info = dataset_info(config.data.dataset)
    build.make_recipe(config, info)
    compiles = options.compile and can_compile(device)
    every, same_as = opponents(config, info.classes, device, how, compiles)
    with torch.device("meta"):
        shapes = build.make_network(config, info.classes)
    return Setting(config, device, info, how, compiles, _choose(every, options.contestants), same_as, shapes)


def make_config(options: TrainingBenchmark) -> Config:
    """The paper's recipe for that network and number of members.

    Raises:
        ConfigError: For another network, or numbers that the configuration refuses.
    """
    network = network_of_short_name(options.network)
    if network is None:
        allowed = " and ".join(kind.short_form for kind in KINDS.values())
        raise ConfigError(f"--network: found {options.network!r}, allowed: {allowed}")
    several = options.members > 1
    mixing = {"method": "patch", "prob": 0.5, "alpha": 2.0, "weight_root": 3}
    tree = {
        "data": {"dataset": KINDS[network["kind"]].published_dataset},
        "network": network | {"members": options.members},
        "mixing": mixing if several else None,
        "msda": {"method": "cutmix", "prob": 0.5, "beta": 1.0} if several else None,
        "batch": {"rows": options.rows, "repetitions": 4 if several else 1},
        "optimizer": {"lr": 0.05, "weight_decay": 6e-4},
        "schedule": {"epochs": 300, "warmup_steps": 0},
        "step": {"precision": options.precision, "compile": "auto" if options.compile else False},
    }
    return check_config(tree, f"benchmark of {options.network}")


def _choose(every: list[Opponent], names: str | None) -> list[Opponent]:
    if names is None:
        return every
    known = [one.name for one in every]
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in known:
            raise ConfigError(f"--contestants: found {name!r}, allowed on this device: {', '.join(known)}")
    return [one for one in every if one.name in wanted]
