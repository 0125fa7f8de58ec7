"""Checkpoints: whole or not there, and refused when they are damaged, dangerous or of another network."""

import errno
import os

import pytest
import torch
from lab import CONFIG, Lab, again, assert_same_tensors
from small_disk import fill_disk, room_for

from mixmo_fast.errors import CheckpointError
from mixmo_fast.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


def test_a_full_disk_is_one_error_and_loses_nothing(trained, monkeypatch):
    before = trained.checkpoint()
    fill_disk(monkeypatch, errno.ENOSPC)
    with pytest.raises(CheckpointError, match=r"last.pt: cannot write the checkpoint of epoch 4: the disk is full"):
        save_checkpoint(again(before), trained.path(), [trained.path("alias")])
    assert_same_tensors(trained.checkpoint(), before)
    assert not trained.path("alias").exists()
    assert not list(trained.run.glob("checkpoints/.*"))


def test_wherever_the_file_system_says_no_it_is_one_line_and_nothing_is_lost(trained, tmp_path):
    """At every few hundred bytes of the file; torch turns what the system says into errors of its own."""
    before = trained.checkpoint()
    path, alias = tmp_path / "last.pt", tmp_path / "best.pt"
    save_checkpoint(again(before), path, [alias])
    size = path.stat().st_size
    for limit in (*range(0, 4096, 256), *range(4096, size, size // 20), size - 1):
        with room_for(limit), pytest.raises(CheckpointError) as refused:
            save_checkpoint(again(before | {"epoch": 9}), path, [alias])
        assert str(refused.value).endswith(
            "of epoch 9: files may not become so large here (ulimit -f), raise that or write to another disk; earlier "
            "ones are untouched"
        )
        assert sorted(tmp_path.iterdir()) == [alias, path]
    for file in (path, alias):
        assert load_checkpoint(file).epoch == 4


def test_an_error_of_the_device_is_not_taken_for_a_full_disk(trained, monkeypatch):
    def fail(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        save_checkpoint(again(trained.checkpoint()), trained.path())


def test_a_death_between_alias_and_last_does_not_endanger_the_alias(lab):
    """What such a death leaves: the temporary name is a second link to the best checkpoint."""
    lab.train("schedule.epochs=1")
    before = lab.checkpoint("best")
    os.link(lab.path("best"), lab.path("last").with_name(".last.pt.tmp"))
    save_checkpoint(again(before | {"epoch": 7}), lab.path())
    assert lab.checkpoint()["epoch"] == 7
    assert_same_tensors(lab.checkpoint("best"), before)


def test_a_checkpoint_of_another_network_is_refused(trained, tmp_path, digits):
    other = Lab(tmp_path, digits, CONFIG.replace("width: 1", "width: 2"))
    with pytest.raises(CheckpointError, match=r"another network or data set \(wide_resnet-10-1.*wide_resnet-10-2"):
        other.evaluate(str(trained.path()))


def test_weights_that_do_not_fit_are_refused_with_the_first_differences(trained, tmp_path):
    content = vars(load_checkpoint(trained.path()))
    content["network"] = {name.replace("heads.1", "heads.7"): value for name, value in content["network"].items()}
    save_checkpoint(Checkpoint(**content), tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"another network: heads.1.weight is missing; heads.1.bias is missing; "):
        trained.evaluate(str(tmp_path / "x.pt"))


@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_a_damaged_checkpoint_is_named(trained, tmp_path, damage):
    content = (trained.run / "checkpoints" / "last.pt").read_bytes()
    bad = tmp_path / "bad.pt"
    bad.write_bytes({"cut": content[: len(content) // 2], "noise": b"hello" * 100, "empty": b""}[damage])
    with pytest.raises(CheckpointError, match=r"bad.pt: not a readable checkpoint"):
        trained.evaluate(str(bad))


def test_a_cut_archive_is_said_to_be_cut_wherever_it_ends(trained, tmp_path):
    content = (trained.run / "checkpoints" / "last.pt").read_bytes()
    bad = tmp_path / "bad.pt"
    for length in (100, 1 << 16, len(content) // 2, len(content) - 22, len(content) - 1):
        bad.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"bad.pt: not a readable checkpoint \(it is cut off or damaged\)$"):
            load_checkpoint(bad)


def test_a_missing_checkpoint_says_which_there_are(trained):
    with pytest.raises(
        CheckpointError, match=r"epoch_0003.pt: no such checkpoint; .* has best, epoch_0002, epoch_0004, last"
    ):
        trained.evaluate("3")
