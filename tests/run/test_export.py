"""Checkpoints of ours in the authors' form: what their scripts would read, and the same numbers back here."""

from pathlib import Path

import pytest
import torch
from lab import Lab, assert_same_tensors
from places import TESTS

from mixmo_fast.config.load import load_config, to_yaml
from mixmo_fast.config.schema import Config
from mixmo_fast.errors import CheckpointError, ConfigError
from mixmo_fast.networks.preact_resnet import preact_resnet18
from mixmo_fast.run.export import export_checkpoint
from mixmo_fast.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mixmo_fast.training.reference_checkpoint import load_reference_checkpoint, save_reference_checkpoint

GOLDEN = TESTS / "golden"
THEIRS = GOLDEN / "reference_wrn10-1_cutmixmo.ckpt"
THEIR_CONFIG = GOLDEN / "reference_wrn10-1_cutmixmo.yaml"


def read(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def export(lab: Lab, out: Path, which: str = "last", **options) -> tuple[str, ...]:
    return export_checkpoint(lab.config, which, lab.folder / "runs", out, **options)


@pytest.fixture
def config() -> Config:
    return load_config(THEIR_CONFIG)


def test_a_checkpoint_of_theirs_comes_out_as_it_went_in(tmp_path, config):
    """Read, kept in our form, and written again: names, order, types, and every bit of weights and momentum."""
    theirs, expected = load_reference_checkpoint(THEIRS), read(THEIRS)
    ours = Checkpoint(theirs.epoch, to_yaml(config), theirs.network, theirs.optimizer, {}, "[]")
    save_checkpoint(ours, tmp_path / "ours.pt")
    save_reference_checkpoint(load_checkpoint(tmp_path / "ours.pt"), config, tmp_path / "again.ckpt")
    found = read(tmp_path / "again.ckpt")
    assert list(found) == list(expected)
    for key in ("classifier_state_dict", "classifier_optimizer_state_dict"):
        assert list(found[key]) == list(expected[key])
    assert type(found["classifier_state_dict"]) is type(expected["classifier_state_dict"])
    assert_same_tensors(found, expected)


def test_an_exported_run_is_as_their_file(trained, tmp_path):
    """Of the same network and optimiser as the golden file; all that may differ are numbers."""
    export(trained, tmp_path / "run.ckpt")
    found, expected = read(tmp_path / "run.ckpt"), read(THEIRS)
    weights, their_weights = found["classifier_state_dict"], expected["classifier_state_dict"]
    assert list(weights) == list(their_weights)
    for name, tensor in weights.items():
        assert (tensor.shape, tensor.dtype) == (their_weights[name].shape, their_weights[name].dtype)
        assert tensor.is_contiguous() and not tensor.requires_grad
    state, their_state = (one["classifier_optimizer_state_dict"]["state"] for one in (found, expected))
    assert list(state) == list(their_state)
    for number, buffers in state.items():
        assert buffers.keys() == their_state[number].keys()
        assert buffers["momentum_buffer"].shape == their_state[number]["momentum_buffer"].shape
    (group,), (their_group,) = (one["classifier_optimizer_state_dict"]["param_groups"] for one in (found, expected))
    assert group.keys() >= their_group.keys()
    assert {key: type(value) for key, value in group.items() if key in their_group} == {
        key: type(value) for key, value in their_group.items()
    }
    for key in ("momentum", "nesterov", "weight_decay", "params", "fused", "foreach"):
        assert group[key] == their_group[key]
    assert group["initial_lr"] == 0.05 and group["lr"] == pytest.approx(0.05 * 0.1)
    assert found["epoch"] == 4


def test_torch_goes_on_with_an_exported_optimiser(trained, tmp_path):
    """As a script of plain torch does: SGD and a schedule that resumes, which asks for `initial_lr`."""
    export(trained, tmp_path / "run.ckpt")
    found = read(tmp_path / "run.ckpt")
    shapes = [tensor for name, tensor in found["classifier_state_dict"].items() if name.split(".")[-1] not in BUFFERS]
    parameters = [torch.nn.Parameter(torch.zeros_like(tensor)) for tensor in shapes]
    optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9, nesterov=True)
    optimizer.load_state_dict(found["classifier_optimizer_state_dict"])
    torch.optim.lr_scheduler.MultiStepLR(optimizer, [3], last_epoch=found["epoch"])
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    kept = trained.checkpoint()["optimizer"]["state"]
    for number, parameter in enumerate(parameters):
        torch.testing.assert_close(
            optimizer.state[parameter]["momentum_buffer"], 0.9 * kept[number]["momentum_buffer"], rtol=0, atol=0
        )


BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


@pytest.mark.parametrize("which", ["last", "best", "2"])
def test_a_round_trip_gives_the_same_logits(trained, tmp_path, which):
    lines = export(trained, tmp_path / "run.ckpt", which)
    epoch = trained.checkpoint({"2": "epoch_0002"}.get(which, which))["epoch"]
    assert lines[0].startswith(f"wrote {tmp_path / 'run.ckpt'}: epoch {epoch} of ")
    expected, found = trained.evaluate(which), trained.evaluate(str(tmp_path / "run.ckpt"))
    assert torch.equal(found.logits, expected.logits)
    assert found.trained.epoch == epoch
    assert load_reference_checkpoint(tmp_path / "run.ckpt").epoch == epoch


def test_a_run_that_starts_from_the_exported_file_is_the_same(trained, lab, tmp_path):
    export(trained, tmp_path / "run.ckpt")
    one_epoch = ("schedule.epochs=1", "schedule.milestones={}")
    runs = []
    for file in (trained.path(), tmp_path / "run.ckpt"):
        lab.train(*one_epoch, init=file, init_optimizer=True, from_scratch=True)
        runs.append(lab.checkpoint())
    assert_same_tensors(*runs)


def test_a_preact_resnet_keeps_its_decay(tmp_path):
    text = """
data: {dataset: tinyimagenet}
network: {kind: preact_resnet, depth: 18, width: 1, members: 1}
batch: {rows: 400}
optimizer: {lr: 0.2, weight_decay: 0.0001, lr_scaling: linear}
schedule: {epochs: 4, warmup_steps: 0}
"""
    network = preact_resnet18(1, 1, 2)
    state = torch.optim.SGD(network.parameters(), lr=torch.tensor(0.08), momentum=0.9, nesterov=True).state_dict()
    checkpoint = Checkpoint(4, text, network.state_dict(), state, {}, "[]")
    folder = tmp_path / "run"
    save_checkpoint(checkpoint, folder / "checkpoints" / "last.pt")
    (folder / "config.yaml").write_text(text)
    assert len(export_checkpoint(folder, "last", tmp_path, tmp_path / "run.ckpt")) == 1
    found = read(tmp_path / "run.ckpt")
    (group,) = found["classifier_optimizer_state_dict"]["param_groups"]
    assert (group["weight_decay"], group["initial_lr"]) == (0.0001, 0.8)
    assert type(group["lr"]) is float and group["lr"] == pytest.approx(0.08)
    names = list(found["classifier_state_dict"])
    assert (names[0], names[-1]) == ("conv1.weight", "fc.bias")


def test_a_file_that_is_there_is_not_replaced_unless_told_so(trained, tmp_path):
    out = tmp_path / "deep" / "run.ckpt"
    export(trained, out, "2")
    with pytest.raises(CheckpointError, match=r"run.ckpt: exists already; allowed: another name, or --force"):
        export(trained, out)
    assert read(out)["epoch"] == 2
    export(trained, out, force=True)
    assert read(out)["epoch"] == 4
    assert [path.name for path in out.parent.iterdir()] == ["run.ckpt"]


def test_a_checkpoint_of_the_run_is_never_replaced(trained):
    before = trained.checkpoint()
    with pytest.raises(CheckpointError, match=r"last.pt: exists already; allowed: another name, for this is a check"):
        export(trained, trained.path(), force=True)
    assert_same_tensors(trained.checkpoint(), before)


def test_what_cannot_be_exported_is_one_line(trained, tmp_path):
    with pytest.raises(CheckpointError, match=r"found mixmo-pytorch's form already"):
        export(trained, tmp_path / "x.ckpt", str(THEIRS))
    with pytest.raises(CheckpointError, match=r"epoch_0003.pt: no such checkpoint; .* has best, epoch_0002"):
        export(trained, tmp_path / "x.ckpt", "3")
    with pytest.raises(ConfigError, match=r"not a run folder"):
        export_checkpoint(tmp_path, "last", tmp_path, tmp_path / "x.ckpt")
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"x.ckpt: cannot write the checkpoint of epoch 4: "):
        export(trained, tmp_path / "file" / "x.ckpt")


def test_the_command_writes_the_file_and_a_fault_is_one_line(trained, tmp_path, command):
    line = ("checkpoint", "export", trained.run, "-o", tmp_path / "run.ckpt", "--checkpoint", "best")
    code, out, err = command(*line)
    assert (code, err) == (0, "")
    assert f"wrote {tmp_path / 'run.ckpt'}: epoch" in out and "l2_reg: 0.0003" in out
    assert read(tmp_path / "run.ckpt")["epoch"] == trained.checkpoint("best")["epoch"]
    code, _, err = command(*line)
    assert (code, len(err.splitlines())) == (2, 1)
    assert err.startswith("mixmo-fast: ") and "--force" in err
