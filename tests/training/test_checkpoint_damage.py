"""A damaged checkpoint is refused in a line that names what is damaged: no weight changes without a word."""

import random
import re
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from lab import Lab, assert_same_tensors

from mixmo_fast.errors import CheckpointError, DataError
from mixmo_fast.run.trained import read_weights
from mixmo_fast.runfolder.names import SUMMARY
from mixmo_fast.training import checkpoint as checkpoints
from mixmo_fast.training.checkpoint import load_checkpoint
from mixmo_fast.training.checkpoint_check import compare_checksums

SEED = 20
FLIPS = 150


@pytest.fixture
def damaged(trained, tmp_path) -> Path:
    """A copy of a good checkpoint, to be damaged."""
    return Path(shutil.copy(trained.path(), tmp_path / "damaged.pt"))


def flip_bit(path: Path, position: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        (byte,) = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ 1 << bit]))


def where(path: Path, part: str) -> tuple[int, int]:
    """The first byte of a part of an archive, and how many it has."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(part)
        with archive.open(info):
            pass
        names = path.read_bytes()[info.header_offset + 26 : info.header_offset + 30]
        lengths = int.from_bytes(names[:2], "little") + int.from_bytes(names[2:], "little")
        return info.header_offset + 30 + lengths, info.file_size


def test_a_flipped_bit_anywhere_changes_nothing_or_is_refused(damaged, trained):
    """Some bytes count for nothing: what aligns the parts, and what headers say twice."""
    whole, rng, refused = trained.checkpoint(), random.Random(SEED), 0
    content = damaged.read_bytes()
    for _ in range(FLIPS):
        damaged.write_bytes(content)
        flip_bit(damaged, rng.randrange(len(content)), rng.randrange(8))
        try:
            found = load_checkpoint(damaged)
        except CheckpointError as error:
            assert "\n" not in str(error) and str(damaged) in str(error)
            refused += 1
        else:
            assert_same_tensors({key: value for key, value in vars(found).items() if key != "history"}, whole)
    assert refused > FLIPS / 2


def test_without_the_comparison_a_flipped_bit_is_another_weight(damaged, trained, monkeypatch):
    """What torch itself does; so this is what the test above would see."""
    monkeypatch.setattr(checkpoints, "compare_checksums", lambda _: None)
    (part,) = (name for name in zipfile.ZipFile(damaged).namelist() if name.endswith("/data/0"))
    first, _ = where(damaged, part)
    flip_bit(damaged, first + 3, 6)
    found = load_checkpoint(damaged).network["encoders.0.weight"]
    assert not torch.equal(found, trained.checkpoint()["network"]["encoders.0.weight"])


@pytest.mark.parametrize(
    "key", ["network.encoders.1.weight", "network.heads.0.bias", "optimizer.state.0.momentum_buffer"]
)
def test_the_tensor_that_is_damaged_is_named(damaged, key):
    """4,096 zeroed bytes, or as many as it has."""
    content = torch.load(damaged, weights_only=True)
    parts = key.split(".", 1)
    tensor = (
        content["network"][parts[1]] if parts[0] == "network" else content["optimizer"]["state"][0]["momentum_buffer"]
    )
    with zipfile.ZipFile(damaged) as archive:
        names = [name for name in archive.namelist() if "/data/" in name]
    wanted = tensor.numpy().tobytes() if tensor.is_contiguous() else tensor.permute(0, 2, 3, 1).numpy().tobytes()
    raw = damaged.read_bytes()
    (part,) = [name for name in names if raw[where(damaged, name)[0] :][: len(wanted)] == wanted]
    first, length = where(damaged, part)
    with damaged.open("r+b") as file:
        file.seek(first)
        file.write(bytes(min(4096, length)))
    with pytest.raises(
        CheckpointError, match=f"damaged.pt: damaged: the checksum of {key} is not that of what was written"
    ):
        load_checkpoint(damaged)


def test_a_damaged_last_checkpoint_names_the_newest_that_is_whole(trained, digits, tmp_path):
    lab = Lab(tmp_path, digits)
    shutil.copytree(trained.run, lab.run)
    (lab.run / SUMMARY).unlink()
    for name in ("last", "best", "epoch_0004"):
        target = lab.path(name)
        middle = target.stat().st_size // 2
        target.write_bytes(target.read_bytes()[:middle])
    with pytest.raises(CheckpointError) as refused:
        lab.train()
    assert "remove it to continue from epoch_0002.pt, of epoch 2, or use --from-scratch" in str(refused.value)


def test_compressed_parts_are_refused_unread(damaged, monkeypatch):
    def unread(*_, **__):
        raise AssertionError("was read")

    with zipfile.ZipFile(damaged, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(1_000_000))
    monkeypatch.setattr(torch, "load", unread)
    with pytest.raises(CheckpointError, match="its parts are compressed, which torch's never are"):
        load_checkpoint(damaged)


def test_files_without_checksums_pass(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    compare_checksums(tmp_path / "old.pt")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"config": None}, "config: found None, allowed: text"),
        ({"network": []}, "network: found list, allowed: a dictionary"),
        ({"network": {}}, "network: found an empty dictionary"),
        ({"network": {"heads.0.bias": 0.5}}, "network.heads.0.bias: found 0.5, allowed: a dense tensor"),
        (
            {"network": {"heads.0.bias": torch.eye(3).to_sparse()}},
            "network.heads.0.bias: found a tensor, sparse_coo float32 (3, 3), allowed: a dense tensor",
        ),
        ({"optimizer": {}}, "optimizer.state: found None, allowed: a dictionary"),
        ({"optimizer": {"state": {}, "param_groups": []}}, "optimizer.param_groups: found list"),
        ({"optimizer": {"state": {}, "param_groups": [{}]}}, "optimizer.param_groups.0.params: found None"),
        (
            {"optimizer": {"state": {0: {"momentum_buffer": 1}}, "param_groups": [{"params": []}]}},
            "optimizer.state.0.momentum_buffer: found 1, allowed: a dense tensor",
        ),
        (
            {"optimizer": {"state": {}, "param_groups": [{"params": [0, {}]}]}},
            "optimizer.param_groups.0.params: found list, allowed: a list of whole numbers",
        ),
        ({"network": {"a\x1b[31m\nb": 1}}, r"network.'a\x1b[31m\nb': found 1, allowed: a dense tensor"),
        ({"scaler": {"scale": "much"}}, "scaler.scale: found 'much', allowed: a number"),
        ({"history": 3}, "history: found 3, allowed: text"),
        ({"data": None}, "data: found None, allowed: text"),
        ({"epoch": torch.tensor(4)}, "epoch: found a tensor, int64 (), allowed: a whole number at least 0"),
        ({"format": torch.tensor(1)}, "no format 1 mark"),
    ],
)
def test_a_field_of_another_type_is_named(damaged, change, said):
    torch.save({"format": 1, **vars(load_checkpoint(damaged))} | change, damaged)
    with pytest.raises(CheckpointError) as refused:
        load_checkpoint(damaged)
    assert said in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("head", [None, torch.zeros(0, 64), torch.zeros(10)])
def test_weights_without_a_head_to_count_classes_by_are_one_line(trained, tmp_path, head):
    run = shutil.copytree(trained.run, tmp_path / "run")
    content = {"format": 1, **vars(load_checkpoint(run / "checkpoints" / "last.pt"))}
    content["network"] = {name: one for name, one in content["network"].items() if name != "heads.0.weight"}
    content["network"] |= {} if head is None else {"heads.0.weight": head}
    torch.save(content, run / "checkpoints" / "last.pt")
    found = "none" if head is None else re.escape(str(tuple(head.shape)))
    with pytest.raises(CheckpointError, match=f"last.pt: heads.0.weight: found {found}, allowed: classes x features"):
        read_weights(run, "last", tmp_path, print).network()


@pytest.mark.parametrize("history", ["", "{}", "[3]", '[{"epoch": "x"}]', "[" * 100_000])
def test_a_damaged_history_is_one_line(trained, digits, tmp_path, history):
    lab = Lab(tmp_path, digits)
    shutil.copytree(trained.run, lab.run)
    (lab.run / SUMMARY).unlink()
    torch.save({"format": 1, **vars(load_checkpoint(lab.path()))} | {"history": history}, lab.path())
    with pytest.raises(DataError, match=f"^{lab.run}: history: "):
        lab.train()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda state: state.clear(), "optimizer.state.0: found no momentum of encoders.0.weight"),
        (
            lambda state: state[0].update(momentum_buffer=torch.zeros(1)),
            r"optimizer.state.0.momentum_buffer: found \(1,\), allowed: \(16, 3, 3, 3\), as encoders.0.weight is",
        ),
    ],
)
def test_a_run_does_not_go_on_with_momentum_that_is_not_its_own(trained, digits, tmp_path, spoil, said):
    lab = Lab(tmp_path, digits)
    shutil.copytree(trained.run, lab.run)
    (lab.run / SUMMARY).unlink()
    content = {"format": 1, **vars(load_checkpoint(lab.path()))}
    spoil(content["optimizer"]["state"])
    torch.save(content, lab.path())
    with pytest.raises(CheckpointError, match=said):
        lab.train("schedule.epochs=4")
