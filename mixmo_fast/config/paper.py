"""The 27 published runs: one table of names, the grammar that turns a name into a `Config`, and the YAML files.

A run's name says everything: `exp_{dataset}_{network}_{mixing}_{augmentation}_bar{b}`. The data set fixes the recipe
(length, rates, decay), the other parts vary it. `python -m mixmo_fast.config.paper` writes `configs/` from here, and
a test holds the files equal to it. `PUBLISHED_TOP1` is typed by hand from the authors' tables and derived from
nothing, so that it is a second witness of which runs there are.
"""

import argparse
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixmo_fast.config.load import check_config, yaml_line
from mixmo_fast.config.schema import Config
from mixmo_fast.config.titles import run_title
from mixmo_fast.errors import ConfigError, shorten
from mixmo_fast.files import write_text
from mixmo_fast.networks.kinds import KINDS, network_of_run_name


@dataclass(frozen=True)
class Recipe:
    """What a data set fixes; rates and warm-up are for one repetition, b repetitions divide and multiply them."""

    title: str
    folder: str
    rows: int
    lr: float
    warmup_steps: int
    weight_decay: float
    epochs: int
    milestones: tuple[int, ...]


# CIFAR's weight decay is the authors' extra loss term, 3e-4 times the sum of squares, as SGD's coupled decay.
_CIFAR: dict[str, Any] = {"rows": 64, "lr": 0.05, "warmup_steps": 782, "weight_decay": 6e-4, "epochs": 300}
RECIPES = {
    "cifar10": Recipe("CIFAR-10", "cifar10", **_CIFAR, milestones=(101, 201, 226)),
    "cifar100": Recipe("CIFAR-100", "cifar100", **_CIFAR, milestones=(101, 201, 226)),
    "tinyimagenet": Recipe(
        "Tiny ImageNet", "tiny", 100, 0.2, 1000, weight_decay=1e-4, epochs=1200, milestones=(600, 900)
    ),
}

_CIFAR_RUNS = (
    "wrn2810_1net_standard_bar1",
    "wrn2810_1net_msdamixup_bar1",
    "wrn2810_1net_msdacutmix_bar1",
    "wrn2810-2_mimo_standard_bar4",
    "wrn2810-2_linearmixmo_standard_bar4",
    "wrn2810-2_cutmixmo-p5_standard_bar4",
    "wrn2810-2_linearmixmo_msdacutmix_bar4",
    "wrn2810-2_cutmixmo-p5_msdacutmix_bar4",
)
_TINY_RUNS = (
    "res18_1net_standard_bar1",
    "res18_1net_msdamixup_bar1",
    "res18_1net_msdacutmix_bar1",
    "res18-2_linearmixmo_standard_bar4",
    "res18-2_cutmixmo-p5_standard_bar4",
    "res182_1net_standard_bar1",
    "res182-2_linearmixmo_standard_bar4",
    "res182-2_cutmixmo-p5_standard_bar4",
    "res183_1net_standard_bar1",
    "res183-2_linearmixmo_standard_bar4",
    "res183-2_cutmixmo-p5_standard_bar4",
)

PAPER_RUNS: dict[str, str] = {
    f"exp_{dataset}_{run}": RECIPES[dataset].folder
    for dataset, runs in (("cifar10", _CIFAR_RUNS), ("cifar100", _CIFAR_RUNS), ("tinyimagenet", _TINY_RUNS))
    for run in runs
}
"""Name of each published run, in order -> its folder under `configs/`."""

PUBLISHED_TOP1: dict[str, tuple[float, ...] | None] = {
    "exp_cifar10_wrn2810_1net_standard_bar1": (96.37,),
    "exp_cifar10_wrn2810_1net_msdamixup_bar1": (97.07,),
    "exp_cifar10_wrn2810_1net_msdacutmix_bar1": (97.28,),
    "exp_cifar10_wrn2810-2_mimo_standard_bar4": (96.71,),
    "exp_cifar10_wrn2810-2_linearmixmo_standard_bar4": (96.88,),
    "exp_cifar10_wrn2810-2_cutmixmo-p5_standard_bar4": (97.52,),
    "exp_cifar10_wrn2810-2_linearmixmo_msdacutmix_bar4": (97.73,),
    "exp_cifar10_wrn2810-2_cutmixmo-p5_msdacutmix_bar4": (97.83,),
    "exp_cifar100_wrn2810_1net_standard_bar1": (81.79,),
    "exp_cifar100_wrn2810_1net_msdamixup_bar1": (83.43,),
    "exp_cifar100_wrn2810_1net_msdacutmix_bar1": (83.95,),
    "exp_cifar100_wrn2810-2_mimo_standard_bar4": (82.92,),
    "exp_cifar100_wrn2810-2_linearmixmo_standard_bar4": (82.96,),
    "exp_cifar100_wrn2810-2_cutmixmo-p5_standard_bar4": (85.52, 85.59),
    "exp_cifar100_wrn2810-2_linearmixmo_msdacutmix_bar4": (85.36, 85.57),
    "exp_cifar100_wrn2810-2_cutmixmo-p5_msdacutmix_bar4": (85.77, 85.92),
    "exp_tinyimagenet_res18_1net_standard_bar1": (62.75,),
    "exp_tinyimagenet_res18_1net_msdamixup_bar1": None,
    "exp_tinyimagenet_res18_1net_msdacutmix_bar1": None,
    "exp_tinyimagenet_res18-2_linearmixmo_standard_bar4": (62.91,),
    "exp_tinyimagenet_res18-2_cutmixmo-p5_standard_bar4": (64.32,),
    "exp_tinyimagenet_res182_1net_standard_bar1": (64.91,),
    "exp_tinyimagenet_res182-2_linearmixmo_standard_bar4": (67.03,),
    "exp_tinyimagenet_res182-2_cutmixmo-p5_standard_bar4": (69.12,),
    "exp_tinyimagenet_res183_1net_standard_bar1": (65.84,),
    "exp_tinyimagenet_res183-2_linearmixmo_standard_bar4": (68.36,),
    "exp_tinyimagenet_res183-2_cutmixmo-p5_standard_bar4": (70.23,),
}
"""Published top-1 in percent, best epoch by test accuracy: one figure, or the lowest and highest; None: none."""

_NAME = re.compile(
    r"exp_(?P<dataset>cifar100|cifar10|tinyimagenet)"
    r"_(?P<network>[a-z]+\d+)(?:-(?P<members>\d))?"
    r"_(?P<mixing>1net|mimo|(?:linearmixmo|(?P<mask>cut|cow)mixmo-p(?P<tenths>\d))(?:-a(?P<alpha>\d))?(?:-r(?P<root>\d))?)"
    r"_(?:standard|msda(?P<msda>mixup|cutmix)|da(?P<augmentation>augmix))"
    r"_bar(?P<repetitions>\d)"
)
_NETWORKS = "|".join(name for kind in KINDS.values() for name in kind.run_names)
_GRAMMAR = (
    f"exp_{{cifar10|cifar100|tinyimagenet}}_{{{_NETWORKS}}}[-members]"
    "_{1net|mimo|linearmixmo|cutmixmo-pN|cowmixmo-pN}[-aN][-rN]_{standard|msdamixup|msdacutmix|daaugmix}_bar{b}"
)


def paper_config(name: str) -> Config:
    """The configuration that a run's name stands for, published or not, such as another `p`, `a`, `r` or `bar`.

    `cutmixmo-p5` is patch mixing with probability 0.5, `cowmixmo-p5` the same with CowMasks, `-a4` alpha 4, `-r1`
    weight root 1, `wrn2810-3` a WRN-28-10 with three members, `res182` a PreActResNet-18 of width 2, `daaugmix` AugMix
    behind crop and flip, `bar4` four repetitions.

    Raises:
        ConfigError: a name outside the grammar.
    """
    match = _NAME.fullmatch(name)
    network = network_of_run_name(match["network"]) if match else None
    if match is None or network is None:
        raise ConfigError(f"{shorten(repr(name))}: no name of a run, allowed: {_GRAMMAR}")
    part = match.groupdict()
    recipe = RECIPES[part["dataset"]]
    members, repetitions = int(part["members"] or 1), int(part["repetitions"])
    if (part["mixing"] == "1net") != (members == 1):
        raise ConfigError(
            f"{name!r}: found {members} members with {part['mixing']}, allowed: 1net with one member only"
        )
    if repetitions == 0 or recipe.rows % repetitions:
        raise ConfigError(f"{name!r}: found bar{repetitions}, allowed: a divisor of the {recipe.rows} rows")
    tree = {
        "data": {"dataset": part["dataset"], "augmentation": part["augmentation"] or "standard"},
        "network": network | {"members": members},
        "mixing": _mixing(part),
        "msda": {"method": part["msda"]} if part["msda"] else None,
        "batch": {"rows": recipe.rows, "repetitions": repetitions},
        "optimizer": {"lr": recipe.lr / repetitions, "weight_decay": recipe.weight_decay},
        "schedule": {
            "epochs": recipe.epochs,
            "warmup_steps": recipe.warmup_steps * repetitions,
            "milestones": dict.fromkeys(recipe.milestones, 0.1),
        },
    }
    return check_config(tree, name)


def _mixing(part: dict[str, Any]) -> dict[str, object] | None:
    """The mixing section for the parts of a name."""
    if part["mixing"] == "1net":
        return None
    if part["mixing"] == "mimo":
        return {"method": "linear", "alpha": 0.0, "weight_root": 1.0}
    method: dict[str, object] = {"method": "linear"}
    if part["tenths"] is not None:
        method = {"method": {"cut": "patch", "cow": "cow"}[part["mask"]], "prob": int(part["tenths"]) / 10}
    numbers = {"alpha": part["alpha"], "weight_root": part["root"]}
    return method | {key: float(digit) for key, digit in numbers.items() if digit is not None}


def render_paper_yaml(name: str, folder: str | None = None) -> str:
    """The file of a run of the grammar: what it is, its published top-1 and its command as a header, then its YAML.

    Args:
        name: Of a run, published or not.
        folder: Where the file will lie, for the command; None: where the published ones are.

    Raises:
        ConfigError: As `paper_config`; without a folder also for a name that is not in `PAPER_RUNS`.
    """
    if folder is None:
        if name not in PAPER_RUNS:
            raise ConfigError(f"{name!r}: no published run, allowed: {', '.join(PAPER_RUNS)}")
        folder = f"configs/{PAPER_RUNS[name]}"
    config = paper_config(name)
    top1 = PUBLISHED_TOP1.get(name)
    published = "Published top-1: " + "-".join(f"{x:.2f}" for x in top1) + " %." if top1 else "No published top-1."
    always: dict[str, Any] = {
        "data": {"dataset", "augmentation"} if config.data.augmentation != "standard" else {"dataset"},
        "network": True,
        "batch": {"rows", "repetitions"},
        "optimizer": {"lr", "momentum", "nesterov", "weight_decay"},
        "schedule": True,
    }
    optional = {section: True for section in ("mixing", "msda") if getattr(config, section) is not None}
    sections = config.model_dump(include=always | optional)
    if config.mixing is not None and config.mixing.replacement == "linear":
        del sections["mixing"]["replacement"]  # as in the paper, which does not mention it
    command = f"mixmo-fast train {shlex.quote(f'{folder}/{name}.yaml')}"
    return f"# {run_title(config, RECIPES[config.data.dataset].title)}. {published}\n# {command}\n" + "".join(
        yaml_line(section, values) for section, values in sections.items()
    )


def write_paper_configs(folder: Path) -> list[Path]:
    """Writes the file of each published run into `folder`, and returns their paths in order."""
    paths = []
    for name, subfolder in PAPER_RUNS.items():
        path = folder / subfolder / f"{name}.yaml"
        write_text(path, render_paper_yaml(name))
        paths.append(path)
    return paths


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the configuration files of the published runs.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("configs"))
    written = write_paper_configs(parser.parse_args().folder)
    print(f"wrote {len(written)} files")
