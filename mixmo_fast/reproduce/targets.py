"""What `reproduce` can be asked for: the published runs by data set, the eight on Fashion-MNIST, or any file.

The configurations come from code and not from `configs/`, so that an installed package needs no files; tests hold the
two equal. Names follow the grammar of `mixmo_fast.config.paper`.
"""

from dataclasses import dataclass
from pathlib import Path

from mixmo_fast.config.load import apply_overrides, check_config, load_config
from mixmo_fast.config.paper import PAPER_RUNS, PUBLISHED_TOP1, RECIPES, paper_config
from mixmo_fast.config.schema import Config
from mixmo_fast.config.titles import run_title
from mixmo_fast.errors import ConfigError
from pipelines.datasets.catalog import DATASETS

TARGETS = ("cifar10", "cifar100", "tiny", "fashion", "all")
"""Groups of runs by name; `all` is every published run, which Fashion-MNIST's are not."""

_FASHION = "exp_fashion_mnist_wrn101"
FASHION_RUNS = (
    f"{_FASHION}_1net_standard_bar1",
    f"{_FASHION}_1net_msdamixup_bar1",
    f"{_FASHION}_1net_msdacutmix_bar1",
    f"{_FASHION}-2_mimo_standard_bar4",
    f"{_FASHION}-2_linearmixmo_standard_bar4",
    f"{_FASHION}-2_cutmixmo-p5_standard_bar4",
    f"{_FASHION}-2_linearmixmo_msdacutmix_bar4",
    f"{_FASHION}-2_cutmixmo-p5_msdacutmix_bar4",
)
"""The paper's eight runs of a CIFAR table, in its order, with a network and a data set that a CPU can train."""

COMPARABLE = ("data", "network", "mixing", "msda", "batch", "optimizer")
"""What decides whether a run may be compared with a published number; a schedule may be shorter, which is then said."""


@dataclass(frozen=True)
class Experiment:
    """One configuration that was asked for, before seeds and shortening.

    Attributes:
        name: Of the configuration, which names run folders.
        title: The run in the paper's words.
        config: With overrides.
        full_epochs: Length of the run without any shortening; that of the published run where it is one.
        published: Published top-1 in percent, one figure or the lowest and highest; None: none, or not comparable.
    """

    name: str
    title: str
    config: Config
    full_epochs: int
    published: tuple[float, ...] | None


def find_experiments(targets: tuple[str, ...], overrides: tuple[str, ...]) -> tuple[Experiment, ...]:
    """The experiments that targets stand for, in the order given, each once.

    Args:
        targets: Names of `TARGETS`, or paths of configuration files (`.yaml`, `.yml`).
        overrides: `key=value` each, for all of them.

    Raises:
        ConfigError: On a target that is neither, on a file or an override that cannot be used, or on two different
            files of one name.
    """
    if not targets:
        raise ConfigError(f"nothing to reproduce: name {', '.join(TARGETS)} or configuration files")
    found: dict[str, Experiment] = {}
    for target in targets:
        for name, config in _configurations(target, overrides):
            new = _experiment(name, config)
            if found.setdefault(name, new) != new:
                raise ConfigError(f"{target}: another configuration of the name {name} is asked for, too; rename one")
    return tuple(found.values())


def fashion_config(name: str) -> Config:
    """The configuration of a run on Fashion-MNIST: CIFAR's recipe of that name, shortened from 300 to 20 epochs.

    Raises:
        ConfigError: On a name that the grammar does not know.
    """
    config = paper_config(name.replace("fashion_mnist", "cifar10", 1))
    info = DATASETS["fashion_mnist"]
    tree = config.model_dump() | {
        "data": {"dataset": info.name},
        "schedule": {
            "epochs": 20,
            "warmup_steps": config.steps_per_epoch(info.train_images),  # one epoch, as on CIFAR
            "milestones": dict.fromkeys((8, 14, 16), 0.1),
        },
    }
    return check_config(tree, name)


def config_of_name(name: str) -> Config | None:
    """What a name stands for, in the paper's grammar or among the runs on Fashion-MNIST; None for other names."""
    try:
        return fashion_config(name) if name in FASHION_RUNS else paper_config(name)
    except ConfigError:
        return None


def full_length(name: str, config: Config) -> tuple[int, tuple[float, ...] | None]:
    """Epochs of the whole schedule, and the published top-1 in percent; its own and None where nothing is comparable.

    Args:
        name: The configuration's.
        config: What was trained under that name.
    """
    original = config_of_name(name)
    if original is None or any(getattr(config, part) != getattr(original, part) for part in COMPARABLE):
        return config.schedule.epochs, None
    return original.schedule.epochs, PUBLISHED_TOP1.get(name)


def title_of(config: Config) -> str:
    """The run in the paper's words: `Cut-MixMo + CutMix, WRN-28-10, CIFAR-100`."""
    dataset = config.data.dataset
    if dataset in RECIPES:
        return run_title(config, RECIPES[dataset].title)
    return run_title(config, DATASETS[dataset].title if dataset in DATASETS else dataset)


def _configurations(target: str, overrides: tuple[str, ...]) -> list[tuple[str, Config]]:
    if target in TARGETS:
        if target == "fashion":
            known = {name: fashion_config(name) for name in FASHION_RUNS}
        else:
            known = {name: paper_config(name) for name, folder in PAPER_RUNS.items() if target in ("all", folder)}
        if not overrides:
            return list(known.items())
        return [
            (name, check_config(apply_overrides(config.model_dump(), overrides), name, overrides))
            for name, config in known.items()
        ]
    path = Path(target)
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{target!r}: nothing to reproduce by that name, allowed: {', '.join(TARGETS)} or X.yaml")
    return [(path.stem, load_config(path, overrides))]


def _experiment(name: str, config: Config) -> Experiment:
    """What is known of a configuration of that name."""
    return Experiment(name, title_of(config), config, *full_length(name, config))
