"""Every name of the authors' grammar in their own form, and their own files, read as the runs of those names."""

from pathlib import Path

import pytest
from authors_form import NAMES, authors_file
from places import REPOSITORY

from mixmo_fast.config.load import check_config, load_config
from mixmo_fast.config.paper import PAPER_RUNS, paper_config
from mixmo_fast.config.safe_yaml import read_yaml
from mixmo_fast.config.upstream import from_upstream
from mixmo_fast.run.configs import explain_config, import_config

CONFIGS = REPOSITORY / "configs"
AUTHORS = REPOSITORY.parent / "shared" / "authors_configs"
NOT_THEIRS = (
    "exp_tinyimagenet_res18-2_linearmixmo_standard_bar4",
    "exp_tinyimagenet_res18-2_cutmixmo-p5_standard_bar4",
)
"""Published runs that the authors ship no file of."""

SHIPPED = [name for name in PAPER_RUNS if name not in NOT_THEIRS]


def test_the_grammar_has_648_names_and_the_authors_ship_25_files():
    # CIFAR: 1 network of one member x 1 mixing and 2 of several x 7, on two data sets; Tiny ImageNet: 3 x 1 and 3 x 7.
    # All of them with 4 augmentations and 3 numbers of repetitions.
    assert len(NAMES) == len(set(NAMES)) == (2 * (1 + 2 * 7) + (3 + 3 * 7)) * 4 * 3 == 648
    assert set(PAPER_RUNS) <= set(NAMES)
    assert len(SHIPPED) == 25


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_the_authors_form_is_the_run_that_config_new_writes(name):
    translation = from_upstream(read_yaml(authors_file(name), name), name)
    assert check_config(translation.tree, name) == paper_config(name)
    assert all(note.isprintable() for note in translation.notes)


def without_comments(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]


def assert_is_the_published_run(old: Path, new: Path) -> None:
    """Trained on, imported and explained, a file is the one in `configs/` of the same name, but for comments."""
    published = CONFIGS / PAPER_RUNS[old.stem] / old.name
    assert load_config(old) == load_config(published)  # what `train` and `evaluate` do with it
    assert import_config(old, new).config == load_config(new) == load_config(published)
    assert without_comments(new) == without_comments(published)
    assert explain_config(old) == explain_config(published)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_file_in_the_authors_form_is_the_published_one_but_for_comments(name, tmp_path):
    old = tmp_path / f"{name}.yaml"
    old.write_text(authors_file(name))
    assert_is_the_published_run(old, tmp_path / "new.yaml")


@pytest.mark.skipif(not AUTHORS.is_dir(), reason="the authors' files are not beside this repository")
def test_the_authors_ship_the_files_that_are_held_here():
    assert sorted(path.stem for path in AUTHORS.glob("*.yaml")) == sorted(SHIPPED)


@pytest.mark.skipif(not AUTHORS.is_dir(), reason="the authors' files are not beside this repository")
@pytest.mark.parametrize("name", SHIPPED)
def test_a_file_that_the_authors_ship_is_read_as_the_published_run(name, tmp_path):
    old = AUTHORS / f"{name}.yaml"
    assert_is_the_published_run(old, tmp_path / "new.yaml")
    assert read_yaml(old.read_text(), name) == read_yaml(authors_file(name), name), "the form here is not theirs"


@pytest.mark.parametrize("name", [name for name in SHIPPED if "_1net_" in name])
def test_what_a_single_networks_mixmo_section_holds_changes_nothing(name):
    tree = read_yaml(authors_file(name), name)
    expected = from_upstream(tree, name)
    for section in (
        {"mix_method": None, "alpha": None, "weight_root": None},
        {"mix_method": {"method_name": None, "prob": None, "replacement_method_name": None}},
        {"mix_method": "cutmix", "alpha": -3, "weight_root": "three"},
        {},
    ):
        tree["training"]["dataset_wrapper"]["mixmo"] = section
        assert from_upstream(tree, name) == expected
