"""Files in mixmo-pytorch's form, written out as its authors write theirs, from a run's name and the paper's numbers.

What is absent is `null`, or a section that is ignored: a single network keeps a `mixmo` section whose method is null,
and a run without mixed images an `msda` section whose method is null. Losses are listed for three members, and Tiny
ImageNet has a milestone that is never reached.
"""

import copy
from itertools import product

from mixmo_fast.config.safe_yaml import read_yaml

SINGLE, SEVERAL = (
    "1net",
    (*("mimo", "linearmixmo", "cutmixmo-p5", "cutmixmo-p2", "cutmixmo-p5-a4", "cutmixmo-p5-r1", "cowmixmo-p5"),),
)
NETWORKS = {
    **dict.fromkeys(("cifar10", "cifar100"), ("wrn2810", "wrn2810-2", "wrn2810-3")),
    "tinyimagenet": ("res18", "res18-2", "res182", "res182-2", "res183", "res183-2"),
}
NAMES = tuple(
    f"exp_{dataset}_{network}_{mixing}_{augmentation}_bar{repetitions}"
    for dataset, networks in NETWORKS.items()
    for network in networks
    for mixing, augmentation, repetitions in product(
        SEVERAL if "-" in network else (SINGLE,), ("standard", "msdamixup", "msdacutmix", "daaugmix"), (1, 2, 4)
    )
)
"""Every name of their grammar: networks with several members have the mixings of several, the others have 1net."""

MASKS = {"1net": "null", "mimo": "mixup", "linearmixmo": "mixup", "cutmixmo": "cutmix", "cowmixmo": "cow"}
PROB = {"p5": "0.5", "p2": "0.2"}
CLASSES = {"cifar10": 10, "cifar100": 100, "tinyimagenet": 200}
MILESTONES = {
    "cifar": "        101: 0.1\n        201: 0.1\n        226: 0.1\n",
    "tiny": "        600: 0.1\n        900: 0.1\n        -1: 0.1\n",
}


def authors_file(name: str) -> str:
    """The YAML text of a run of the grammar, as its authors write it."""
    _, dataset, network, mixing, augmentation, bar = name.split("_")
    body, _, members = network.partition("-")
    method, *variants = mixing.split("-")
    alpha, weight_root = ("0", "1") if method == "mimo" else ("2", "3")
    alpha = "4" if "a4" in variants else alpha
    weight_root = "1" if "r1" in variants else weight_root
    repetitions = int(bar.removeprefix("bar"))
    tiny = dataset == "tinyimagenet"
    rate = {1: "0.2", 2: "0.1", 4: "0.05"} if tiny else {1: "0.05", 2: "0.025", 4: "0.0125"}
    mixed = augmentation.removeprefix("msda")
    return f"""\
num_members: {members or 1}

data:
  dataset: {"tinyimagenet200" if tiny else dataset}
  num_classes: {CLASSES[dataset]}

training:
  nb_epochs: {1200 if tiny else 300}
  batch_size: {100 if tiny else 64}
  dataset_wrapper:
    mixmo:
      mix_method:
        method_name: {MASKS[method]}
        prob: {PROB[variants[0]] if variants else 1}
        replacement_method_name: mixup
      alpha: {alpha}
      weight_root: {weight_root}
    msda:
      beta: 1
      prob: 0.5
      mix_method: {mixed if mixed != augmentation else "null"}
    da_method: {"augmix" if augmentation == "daaugmix" else "null"}
  batch_sampler:
    batch_repetitions: {repetitions}
    proba_input_repetition: 0

model_wrapper:
  name: classifier
  network:
    name: {"resnet" if tiny else "wideresnet"}{"mixmo" if members else ""}
    depth: {18 if tiny else 28}
    widen_factor: {body.removeprefix("res18") or 1 if tiny else 10}
  loss:
    listloss:
      - name: soft_cross_entropy
        display_name: ce0
        coeff: 1
        input: logits_0
        target: target_0
      - name: soft_cross_entropy
        display_name: ce1
        coeff: "<num_members"
        input: logits_1
        target: target_1
      - name: soft_cross_entropy
        display_name: ce2
        coeff: "<num_members"
        input: logits_2
        target: target_2
    name: multitask
    display_name: main
    l2_reg: {0 if tiny else 0.0003}
  metrics:
    - accuracy
  metrics_only_test:
    - nll
    - accuracytop5
    - diversity
    - ece
    - auc
    - brier
  optimizer:
    name: sgd
    params:
      lr: {rate[repetitions]}
      momentum: 0.9
      weight_decay: {0.0001 if tiny else 0}
      nesterov: True
  warmup_period: {(1000 if tiny else 782) * repetitions}
  lr_schedule:
    name: multigamma_step
    params:
      dict_milestone_to_gamma:
{MILESTONES["tiny" if tiny else "cifar"]}"""


def theirs(name: str) -> dict:
    """A run's file in their form, as read."""
    return read_yaml(authors_file(name), name)


CUTMIXMO = theirs("exp_cifar10_wrn2810-2_cutmixmo-p5_msdacutmix_bar4")
SINGLE = theirs("exp_cifar10_wrn2810_1net_msdacutmix_bar1")
NOTHING = object()


def changed(tree: dict, dotted: str, value: object) -> dict:
    """A copy with the value at a dotted key set, or taken out."""
    tree = copy.deepcopy(tree)
    inner = tree
    *path, last = (int(part) if part.lstrip("-").isdecimal() else part for part in dotted.split("."))
    for part in path:
        inner = inner[part]
    if value is NOTHING:
        del inner[last]
    else:
        inner[last] = value
    return tree


def leaves(tree: object, path: tuple = ()):
    """The dotted key of every value in a tree."""
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in entries:
        yield ".".join(map(str, (*path, key)))
        yield from leaves(value, (*path, key))
