"""The published runs: names, configurations and files agree, and every file in `configs/` can be loaded.

What the parts of a name mean is held by `test_config_upstream_grammar.py`, for all names there are.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from places import REPOSITORY

from mixmo_fast.config.load import load_config
from mixmo_fast.config.paper import (
    PAPER_RUNS,
    PUBLISHED_TOP1,
    paper_config,
    render_paper_yaml,
    write_paper_configs,
)
from mixmo_fast.errors import ConfigError

FILES = sorted((REPOSITORY / "configs").rglob("*.yaml"))
HAND_WRITTEN = [path for path in FILES if path.stem not in PAPER_RUNS]


def test_there_are_27_published_runs_and_the_second_witness_names_the_same():
    assert len(PAPER_RUNS) == 27
    assert list(PAPER_RUNS) == list(PUBLISHED_TOP1)
    assert [list(PAPER_RUNS.values()).count(folder) for folder in ("cifar10", "cifar100", "tiny")] == [8, 8, 11]


def test_published_figures_are_percentages_and_25_of_the_runs_have_one():
    assert sum(top1 is not None for top1 in PUBLISHED_TOP1.values()) == 25
    for top1 in filter(None, PUBLISHED_TOP1.values()):
        assert len(top1) in (1, 2)
        assert list(top1) == sorted(top1)
        assert 60 < top1[0] <= top1[-1] < 100


@pytest.mark.parametrize("name", PAPER_RUNS)
def test_the_file_of_a_published_run_is_what_the_table_says(name):
    path = REPOSITORY / "configs" / PAPER_RUNS[name] / f"{name}.yaml"
    assert path.read_text(encoding="utf-8") == render_paper_yaml(name)
    assert load_config(path) == paper_config(name)


def test_the_best_cifar100_run_is_the_papers_to_the_last_number():
    assert paper_config("exp_cifar100_wrn2810-2_cutmixmo-p5_msdacutmix_bar4").model_dump() == {
        "data": {
            **{"dataset": "cifar100", "augmentation": "standard"},
            **{"crop_padding": None, "flip": None, "holdout": 0.0},
        },
        "network": {"kind": "wide_resnet", "depth": 28, "width": 10, "members": 2},
        "mixing": {
            **{"method": "patch", "prob": 0.5, "replacement": "linear"},
            **{"alpha": 2.0, "weight_root": 3.0, "decay_from": 11 / 12},
        },
        "msda": {"method": "cutmix", "prob": 0.5, "beta": 1.0},
        "batch": {"rows": 64, "repetitions": 4, "input_repetition": 0.0},
        "optimizer": {
            **{"lr": 0.0125, "momentum": 0.9, "nesterov": True, "weight_decay": 6e-4},
            **{"lr_scaling": "none", "lr_rows": None},
        },
        "schedule": {"epochs": 300, "warmup_steps": 3128, "milestones": {101: 0.1, 201: 0.1, 226: 0.1}},
        "step": {
            **{"precision": "auto", "channels_last": True, "stem": "auto", "compile": "auto"},
            **{"cuda_graph": "auto", "cudnn_benchmark_limit": 10, "fused_optimizer": True, "deterministic": False},
        },
        "evaluation": {"every_epochs": 1, "rows": 500},
        "checkpoint": {"every_epochs": 30, "every_minutes": None},
        "seed": 1,
    }


def test_variants_of_a_method_may_be_combined():
    found = paper_config("exp_cifar100_wrn2810-2_cowmixmo-p2-a4-r1_standard_bar2").mixing
    assert (found.method, found.prob, found.alpha, found.weight_root) == ("cow", 0.2, 4.0, 1.0)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "exp_cifar100_wrn2810_1net_standard",
        "exp_cifar100_wrn2810_1net_standard_bar1.yaml",
        "exp_imagenet_wrn2810_1net_standard_bar1",
        "exp_cifar100_wrn2810-2_cowmixmo_standard_bar4",
        "exp_cifar100_wrn2810-2_mowmixmo-p5_standard_bar4",
        "exp_cifar100_wrn2810_1net_augmix_bar1",
        "exp_cifar100_wrn2810_1net_msdacutmix_daaugmix_bar1",
        "exp_cifar100_wrn2810-2_1net_standard_bar1",
        "exp_cifar100_wrn2810_mimo_standard_bar1",
        "exp_cifar100_wrn2810-2_mimo_standard_bar3",
        "exp_cifar100_wrn2810-2_mimo_standard_bar0",
        "exp_cifar100_wrn2710-2_mimo_standard_bar4",
        "exp_cifar100_res180_1net_standard_bar1",
        "exp_cifar100_wrn2810-2_cutmixmo-p5-r0_standard_bar4",
        "exp_cifar100_wrn2810-0_mimo_standard_bar4",
    ],
)
def test_a_name_outside_the_grammar_is_refused_in_one_line(name):
    with pytest.raises(ConfigError) as caught:
        paper_config(name)
    assert name in str(caught.value) and "allowed" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_published_runs_are_rendered():
    unpublished = "exp_cifar100_wrn2810-2_cutmixmo-p2_standard_bar4"
    paper_config(unpublished)
    with pytest.raises(ConfigError, match="no published run"):
        render_paper_yaml(unpublished)


@pytest.mark.parametrize(
    ("name", "header"),
    [
        (
            "exp_cifar100_wrn2810-2_cutmixmo-p5_msdacutmix_bar4",
            "# Cut-MixMo + CutMix, WRN-28-10, CIFAR-100. Published top-1: 85.77-85.92 %.",
        ),
        ("exp_cifar10_wrn2810-2_mimo_standard_bar4", "# MIMO, WRN-28-10, CIFAR-10. Published top-1: 96.71 %."),
        (
            "exp_tinyimagenet_res18_1net_msdamixup_bar1",
            "# Mixup, PreActResNet-18 of width 1, Tiny ImageNet. No published top-1.",
        ),
        (
            "exp_tinyimagenet_res182-2_linearmixmo_standard_bar4",
            "# Linear-MixMo, PreActResNet-18 of width 2, Tiny ImageNet. Published top-1: 67.03 %.",
        ),
        ("exp_cifar10_wrn2810_1net_standard_bar1", "# Vanilla, WRN-28-10, CIFAR-10. Published top-1: 96.37 %."),
    ],
)
def test_a_file_opens_with_what_it_is_and_what_was_published(name, header):
    assert render_paper_yaml(name).splitlines()[0] == header


def test_the_module_writes_all_files_again(tmp_path):
    paths = write_paper_configs(tmp_path)
    assert [path.relative_to(tmp_path) for path in paths] == [
        Path(folder) / f"{name}.yaml" for name, folder in PAPER_RUNS.items()
    ]
    again = tmp_path / "again"
    command = [sys.executable, "-m", "mixmo_fast.config.paper", str(again)]
    subprocess.run(command, check=True, cwd=REPOSITORY, capture_output=True)
    for path in paths:
        assert (again / path.relative_to(tmp_path)).read_text() == path.read_text()


def test_configs_holds_the_published_the_fashion_mnist_and_the_quickstart_files_and_no_others():
    assert len(FILES) == 27 + 12 + 1
    assert {path.parent.name for path in FILES} == {"configs", "fashion_mnist", *PAPER_RUNS.values()}
    assert len({path.stem for path in FILES}) == len(FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_in_configs_loads_and_opens_with_its_own_command(path):
    load_config(path)
    title, command = path.read_text(encoding="utf-8").splitlines()[:2]
    assert title.startswith("# ") and title.endswith(".")
    assert command == f"# mixmo-fast train {path.relative_to(REPOSITORY).as_posix()}"


@pytest.mark.parametrize("path", HAND_WRITTEN, ids=lambda path: path.stem)
def test_a_file_written_by_hand_quotes_no_accuracy(path):
    assert "%" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.parent.name == "fashion_mnist"], ids=lambda path: path.stem
)
def test_a_fashion_mnist_file_is_the_cifar_recipe_of_its_name_shortened(path):
    config = load_config(path)
    cifar = paper_config(path.stem.replace("fashion_mnist", "cifar10"))
    assert config.data.dataset == "fashion_mnist"
    for section in ("network", "mixing", "msda", "batch", "optimizer", "step"):
        assert getattr(config, section) == getattr(cifar, section), section
    epochs = config.schedule.epochs
    assert epochs == {1: 20, 10: 60}[config.network.width]
    assert config.schedule.warmup_steps == 60_000 * config.batch.repetitions // 64
    assert config.schedule.milestones == {1 + round(epochs * done): 0.1 for done in (1 / 3, 2 / 3, 3 / 4)}
    assert cifar.schedule.milestones == {1 + round(300 * done): 0.1 for done in (1 / 3, 2 / 3, 3 / 4)}
