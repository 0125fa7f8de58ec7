"""`config import`: what it writes, and what it never overwrites."""

import json

import pytest
from authors_form import CUTMIXMO, authors_file, changed
from places import TESTS

from mixmo_fast.config.load import load_config
from mixmo_fast.config.paper import render_paper_yaml
from mixmo_fast.errors import ConfigError, MixmoError
from mixmo_fast.run.configs import import_config

FILE = TESTS / "golden" / "reference_wrn10-1_cutmixmo.yaml"
NAME = "exp_cifar10_wrn2810-2_cutmixmo-p5_msdacutmix_bar4"


def test_an_imported_file_opens_with_where_it_is_from_and_its_own_command(tmp_path):
    old, new = tmp_path / "old.yaml", tmp_path / "new" / "mine.yaml"
    old.write_text(authors_file(NAME))
    assert import_config(old, new).notes
    title, command, *lines = new.read_text().splitlines()
    assert title == "# Imported from old.yaml, a mixmo-pytorch configuration."
    assert command == f"# mixmo-fast train {new}"
    assert lines == render_paper_yaml(NAME).splitlines()[2:]


def test_input_repetition_survives_an_import(tmp_path):
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(json.dumps(changed(CUTMIXMO, "training.batch_sampler.proba_input_repetition", 0.25)))
    assert import_config(old, new).config.batch.input_repetition == load_config(new).batch.input_repetition == 0.25


def test_an_import_overwrites_nothing_unless_told_to(tmp_path):
    new = tmp_path / "new.yaml"
    new.write_text("mine")
    with pytest.raises(ConfigError, match=r"new\.yaml: exists already; allowed: another name, or --force"):
        import_config(FILE, new)
    assert new.read_text() == "mine"
    import_config(FILE, new, force=True)
    assert load_config(new) == load_config(FILE)
    assert [path.name for path in tmp_path.iterdir()] == ["new.yaml"]


def test_a_file_of_ours_is_not_imported(tmp_path):
    own, new = tmp_path / "own.yaml", tmp_path / "new.yaml"
    own.write_text(render_paper_yaml("exp_cifar10_wrn2810_1net_standard_bar1"))
    with pytest.raises(ConfigError, match=r"own\.yaml: found this program's own form already"):
        import_config(own, new)
    assert not new.exists()


def test_a_file_that_is_nobodys_is_told_so_before_anything_is_written(tmp_path):
    odd, new = tmp_path / "odd.yaml", tmp_path / "new.yaml"
    odd.write_text("recipe: {flour: 500}")
    with pytest.raises(ConfigError, match=r"odd\.yaml: recipe: unknown key"):
        import_config(odd, new)
    assert not new.exists()


def test_an_import_into_a_folder_that_cannot_be_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MixmoError, match="cannot write"):
        import_config(FILE, tmp_path / "file" / "new.yaml")
