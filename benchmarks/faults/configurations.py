"""Broken configurations: of this program's form and of the authors', as files and as overrides."""

import random
from pathlib import Path
from typing import Any

import yaml

from benchmarks.faults.campaign import Campaign, Fault, outcome
from benchmarks.faults.damage import damaged
from benchmarks.faults.plans import check_plan
from benchmarks.faults.poison import VALUES, WORDS, damaged_tree, places
from mixmo_fast.config.load import load_config, parse_config, to_yaml
from mixmo_fast.config.paper import PAPER_RUNS, paper_config
from mixmo_fast.config.schema import Config
from mixmo_fast.config.upstream import from_upstream
from mixmo_fast.errors import MixmoError
from mixmo_fast.mixing.plan import draw_plan_block
from mixmo_fast.run import build
from mixmo_fast.run.configs import explain_config, import_config
from pipelines.datasets.catalog import DATASETS

_AUTHORS = """\
num_members: 2
data: {dataset: cifar100, num_classes: 100}
training:
  nb_epochs: 300
  batch_size: 64
  dataset_wrapper:
    mixmo: {mix_method: {method_name: cutmix, prob: 0.5, replacement_method_name: mixup}, alpha: 2, weight_root: 3}
    msda: {beta: 1, prob: 0.5, mix_method: cutmix}
    da_method: null
  batch_sampler: {batch_repetitions: 4, proba_input_repetition: 0}
model_wrapper:
  name: classifier
  network: {name: wideresnetmixmo, depth: 28, widen_factor: 10}
  loss:
    listloss:
    - {name: soft_cross_entropy, display_name: ce0, coeff: 1, input: logits_0, target: target_0}
    - {name: soft_cross_entropy, display_name: ce1, coeff: <num_members, input: logits_1, target: target_1}
    name: multitask
    display_name: main
    l2_reg: 0.0003
  metrics: [accuracy]
  optimizer: {name: sgd, params: {lr: 0.0125, momentum: 0.9, weight_decay: 0, nesterov: true}}
  warmup_period: 3128
  lr_schedule: {name: multigamma_step, params: {dict_milestone_to_gamma: {101: 0.1, 201: 0.1, 226: 0.1}}}
"""


class Configurations(Campaign):
    """Refused in a line, or one that says again what it says, is explained, and gives plans in range."""

    name = "configurations"
    title = "configurations, overrides and the authors' YAML, each changed in one to three places"
    inputs = 10_000

    def prepare(self, small: Path) -> None:
        """Reads the configurations that are to be broken."""
        ours = [to_yaml(paper_config(name)) for name in PAPER_RUNS] + [(small / "small.yaml").read_text()]
        self.texts = [*ours, *[_AUTHORS] * (len(ours) // 2)]
        self.trees: list[Any] = [yaml.safe_load(text) for text in self.texts]
        self.keys = sorted({".".join(map(str, path)) for tree in self.trees for path in places(tree) if path})
        from_upstream(self.trees[-1], "the authors' form")  # or all that comes of it would be refused for one reason

    def attempt(self, draw: random.Random, number: int, folder: Path) -> str:
        """Loads one, and thinks it through where it is accepted."""
        at = draw.randrange(len(self.texts))
        overrides: list[str] = []
        match draw.randrange(4):
            case 0:
                content = damaged(draw, self.texts[at].encode(), words=WORDS)
            case 1:
                content = self.texts[at].encode()
                overrides = [_override(draw, self.keys) for _ in range(draw.choice([1, 1, 2]))]
            case _:
                tree = damaged_tree(draw, self.trees[at])
                content = yaml.safe_dump(tree, allow_unicode=draw.random() < 0.5, sort_keys=False).encode()
        path = folder / "one.yaml"
        path.write_bytes(content)
        config = outcome(lambda: load_config(path, overrides))
        if (folder / "owned").exists() or Path("owned").exists():
            raise Fault("something in a configuration was executed")
        if isinstance(config, MixmoError):
            return "refused"
        return think_through(config, path, draw)


def _override(draw: random.Random, keys: list[str]) -> str:
    key = draw.choice(keys)
    value = draw.choice(VALUES)
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()
    override = f"{key}={text}"
    if draw.random() < 0.3:
        return damaged(draw, override.encode(), words=WORDS).decode("utf-8", "replace")
    return override


def think_through(config: Config, path: Path, draw: random.Random) -> str:
    """What comes of an accepted configuration: its text again, its plans, and what is said of it."""
    if parse_config(to_yaml(config), "again") != config:
        raise Fault("an accepted configuration says something else when it is written and read", to_yaml(config))
    if "mixmo" in path.read_text(errors="replace") and draw.random() < 0.2:
        outcome(lambda: import_config(path, path.with_name("new.yaml")))
    if draw.random() < 0.1:
        outcome(lambda: explain_config(path))
    info = DATASETS.get(config.data.dataset)
    if info is None:
        return "accepted, of an unknown data set"
    recipe = outcome(lambda: build.make_recipe(config, info))
    if isinstance(recipe, MixmoError):
        return "accepted, refused for its data set"
    if recipe.rows * recipe.members > 4096:
        return "accepted, too large to draw"
    epoch = draw.choice([1, recipe.epochs, draw.randint(1, recipe.epochs)])
    check_plan(draw_plan_block(recipe, draw.getrandbits(62), epoch, 0, 1), recipe)
    return "accepted, and a plan drawn"
