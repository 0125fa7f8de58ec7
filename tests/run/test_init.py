"""New runs that begin with the weights of a file: ours, the authors', or anybody's state dict; and what is refused."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from lab import CONFIG, Lab, assert_same_tensors, fresh_network
from places import TESTS

from mixmo_fast.config.load import parse_config
from mixmo_fast.errors import CheckpointError, ConfigError
from mixmo_fast.run import build
from mixmo_fast.training import loop
from mixmo_fast.training.checkpoint import load_checkpoint
from mixmo_fast.training.reference_checkpoint import load_reference_checkpoint
from mixmo_fast.training.start import load_start, momentum_of, read_start

THEIRS = TESTS / "golden" / "reference_wrn10-1_cutmixmo.ckpt"
SHORT = ("schedule.epochs=1", "schedule.milestones={}")
# One step, so that what it began with can be told from what it left.
ONE_STEP = (*SHORT, "schedule.warmup_steps=0", "batch.rows=719", "batch.repetitions=1", "optimizer.lr=0.001")


def network(text: str = CONFIG, classes: int = 10):
    return build.make_network(parse_config(text, "test"), classes)


def their_content() -> dict:
    content = torch.load(THEIRS, weights_only=True)
    return {key: dict(value) if isinstance(value, dict) else value for key, value in content.items()}


def save(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


@pytest.fixture
def started(lab) -> Lab:
    """A run that began with the authors' network."""
    lab.train(*SHORT, init=THEIRS)
    return lab


def test_a_run_begins_with_the_weights_of_the_file_and_its_own_schedule(lab, tmp_path, monkeypatch):
    lab.train("schedule.epochs=2", init=THEIRS)
    other = tmp_path / "other"
    other.mkdir()
    expected = Lab(other, lab.data)
    make_network = build.make_network

    def make_theirs(*arguments):
        made = make_network(*arguments)
        made.load_state_dict(load_reference_checkpoint(THEIRS).network)
        return made

    monkeypatch.setattr(build, "make_network", make_theirs)
    expected.train("schedule.epochs=2")
    assert_same_tensors(lab.checkpoint(), expected.checkpoint())
    assert f"starting at epoch 1 with the weights of {THEIRS}, a checkpoint of mixmo-pytorch" in lab.printed.getvalue()


def test_their_optimiser_numbers_its_parameters_in_the_order_of_the_weights(lab):
    """Every buffer has its parameter's shape, and a file whose weights are in another order is told from that."""
    start = read_start(THEIRS, with_momentum=True)
    made = network()
    momentum = momentum_of(start, made, load_start(made, start))
    raw = their_content()["classifier_optimizer_state_dict"]["state"]
    assert list(momentum) == [name for name, _ in made.named_parameters()]
    for number, (name, parameter) in enumerate(made.named_parameters()):
        assert momentum[name].shape == parameter.shape
        assert torch.equal(momentum[name], raw[number]["momentum_buffer"])
    sorted_names = dataclasses.replace(start, network=dict(sorted(start.network.items())))
    with pytest.raises(CheckpointError, match=r"the momentum buffer of heads.0.bias is \(16,\), expected \(10,\)"):
        momentum_of(sorted_names, made, ())


def test_momentum_travels_where_it_is_asked_for(lab):
    """The first step differs by what Nesterov's form makes of a buffer: v = mu b + g, w -= lr (g + mu v)."""
    lab.train(*ONE_STEP, init=THEIRS)
    without = lab.checkpoint()
    lab.train(*ONE_STEP, init=THEIRS, init_optimizer=True, from_scratch=True)
    with_it = lab.checkpoint()
    assert f"with the weights and momentum of {THEIRS}" in lab.printed.getvalue()
    raw = their_content()["classifier_optimizer_state_dict"]["state"]
    for number, (name, _) in enumerate(network().named_parameters()):
        buffer = raw[number]["momentum_buffer"]
        states = [one["optimizer"]["state"][number]["momentum_buffer"] for one in (with_it, without)]
        torch.testing.assert_close(states[0] - states[1], 0.9 * buffer, rtol=1e-3, atol=1e-5)
        change = with_it["network"][name] - without["network"][name]
        torch.testing.assert_close(change, -0.001 * 0.9**2 * buffer, rtol=1e-2, atol=2e-7)
    assert with_it["optimizer"]["param_groups"] == without["optimizer"]["param_groups"]
    assert with_it["optimizer"]["param_groups"][0]["weight_decay"] == 0.0006  # the configuration's; theirs is 0


def test_a_checkpoint_of_ours_is_as_good(trained, lab):
    lab.train(*ONE_STEP, init=trained.path("best"), init_optimizer=True)
    kept = trained.checkpoint("best")
    assert f"a checkpoint after epoch {kept['epoch']}" in lab.printed.getvalue()
    start = read_start(trained.path("best"), with_momentum=True)
    made = network()
    momentum = momentum_of(start, made, load_start(made, start))
    assert_same_tensors(dict(made.state_dict()), dict(kept["network"]))
    for number, name in enumerate(momentum):
        assert torch.equal(momentum[name], kept["optimizer"]["state"][number]["momentum_buffer"])


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("place", [None, "state_dict", "model", "classifier_state_dict"])
@pytest.mark.parametrize("names", ["ours", "theirs"])
def test_a_plain_state_dict_may_be_of_a_wrapped_network(tmp_path, prefix, place, names):
    theirs = their_content()["classifier_state_dict"]
    ours = load_reference_checkpoint(THEIRS).network
    state = {f"{prefix}{name}": tensor for name, tensor in (ours if names == "ours" else theirs).items()}
    content = state if place is None else {"epoch": 3, place: state}
    made = network()
    assert load_start(made, read_start(save(content, tmp_path / "plain.pt"), with_momentum=False)) == ()
    assert_same_tensors(dict(made.state_dict()), ours)


def test_an_optimiser_beside_a_state_dict_is_found(tmp_path):
    content = their_content()
    found = {"model": content["classifier_state_dict"], "optimizer": content["classifier_optimizer_state_dict"]}
    made = network()
    start = read_start(save(found, tmp_path / "both.pt"), with_momentum=True)
    assert_same_tensors(
        momentum_of(start, made, load_start(made, start)),
        momentum_of(read_start(THEIRS, with_momentum=True), made, ()),
    )


def test_heads_of_another_size_start_anew_and_are_named(lab, tmp_path):
    content = their_content()
    state = content["classifier_state_dict"]
    state |= {f"list_fc.{m}.weight": torch.ones(100, 64) for m in (0, 1)}
    state |= {f"list_fc.{m}.bias": torch.ones(100) for m in (0, 1)}
    file = save(content, tmp_path / "hundred.ckpt")
    lab.train(*SHORT, "optimizer.lr=1e-12", init=file, init_optimizer=True)
    assert "heads.0, heads.1 start anew: 100 classes there, 10 here" in lab.printed.getvalue()
    kept, fresh = lab.checkpoint()["network"], fresh_network()
    assert torch.allclose(kept["encoders.1.weight"], state["list_conv1.1.weight"], atol=1e-6)
    for name in ("heads.0.weight", "heads.1.weight"):
        assert torch.allclose(kept[name], fresh[name], atol=1e-6)


def test_their_single_network_is_told_from_two_members(lab, tmp_path):
    single = network(CONFIG.replace("members: 2", "members: 1").replace("mixing: {method: patch, prob: 0.5}\n", ""))
    file = save(single.state_dict(), tmp_path / "single.pt")
    with pytest.raises(CheckpointError, match=r"single.pt: a checkpoint of another network: .*1 members instead of 2"):
        lab.train(*SHORT, init=file)
    assert not lab.run.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, r"no weights in it \(found nothing\); allowed: "),
        ([1, 2], r"no weights in it \(found list\)"),
        ({"epoch": 3, "weights": {}}, r"no weights in it \(found epoch, weights\)"),
        ({"state_dict": {"conv1.weight": "text"}}, r"state_dict: 'conv1.weight' is no tensor"),
        ({"format": 2, "network": {}}, r"not a checkpoint of this program \(no format 1 mark\)"),
        ({"resnet.conv1.weight": torch.zeros(1)}, r"another network: 'resnet.conv1.weight' is not an entry"),
        ({"bn1.bias": torch.zeros(1), "module.bn1.bias": torch.zeros(1)}, r"two entries have one name"),
    ],
    ids=["nothing", "a list", "other names", "text", "another format", "foreign names", "twice"],
)
def test_a_file_without_usable_weights_says_so(lab, tmp_path, content, message):
    file = save(content, tmp_path / "file.pt")
    with pytest.raises(CheckpointError, match=rf"file.pt: .*{message}"):
        lab.train(*SHORT, init=file)


def test_weights_that_are_not_finite_are_refused(lab, tmp_path):
    content = their_content()
    content["classifier_state_dict"]["bn1.bias"][3] = float("nan")
    with pytest.raises(CheckpointError, match=r"x.ckpt: trunk.bn1.bias has numbers that are not finite"):
        lab.train(*SHORT, init=save(content, tmp_path / "x.ckpt"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("classifier_optimizer_state_dict"), r"no optimiser's state in it; leave out --init-optimizer"),
        (lambda c: c.update(classifier_optimizer_state_dict={}), r"no optimiser's state in it"),
        (lambda c: c.update(classifier_optimizer_state_dict={"state": 3}), r"not of torch's form"),
        (lambda c: optimizer(c)["param_groups"][0]["params"].pop(), r"of 27 parameters, the network has 28"),
        (lambda c: optimizer(c)["state"].pop(4), r"no momentum buffer of trunk.layer1.0.conv1.weight"),
        (
            lambda c: optimizer(c)["state"].update({2: {"momentum_buffer": torch.zeros(5)}}),
            r"the momentum buffer of trunk.layer1.0.bn1.weight is \(5,\), expected \(16,\)",
        ),
    ],
    ids=["missing", "empty", "another form", "fewer parameters", "no buffer", "another shape"],
)
def test_momentum_that_does_not_fit_is_one_line(lab, tmp_path, change, message):
    content = their_content()
    change(content)
    file = save(content, tmp_path / "file.ckpt")
    with pytest.raises(CheckpointError, match=message):
        lab.train(*SHORT, init=file, init_optimizer=True)
    assert not lab.run.exists()
    assert load_start(network(), read_start(file, with_momentum=False)) == ()  # its weights are good


def optimizer(content: dict) -> dict:
    return content["classifier_optimizer_state_dict"]


def test_the_run_folder_keeps_what_it_began_with(started):
    record = json.loads((started.run / "environment.json").read_text())["init"]
    assert record["path"] == str(THEIRS.resolve()) and record["optimizer"] is False
    assert len(record["sha256"]) == 64


def test_the_same_command_goes_on(lab, monkeypatch):
    """Before the first checkpoint it begins again with the file; afterwards with the checkpoint, which says so."""
    undisturbed = lab.folder / "undisturbed"
    lab.train("schedule.epochs=2", init=THEIRS, init_optimizer=True, runs=undisturbed)
    whole, calls = loop._train_epoch, []

    def dying(*arguments):
        calls.append(arguments[5])  # the epoch
        if len(calls) in (1, 3):
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(loop, "_train_epoch", dying)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            lab.train("schedule.epochs=2", init=THEIRS, init_optimizer=True)
    lab.train("schedule.epochs=2", init=THEIRS, init_optimizer=True)
    assert calls == [1, 1, 2, 2]
    assert f"holds 1 epochs: continuing\nits first epoch began with {THEIRS.resolve()}" in lab.printed.getvalue()
    expected = load_checkpoint(undisturbed / "tiny" / "checkpoints" / "last.pt")
    assert_same_tensors(lab.checkpoint()["network"], expected.network)
    assert_same_tensors(lab.checkpoint()["optimizer"], expected.optimizer)
    record = json.loads((lab.run / "environment.json").read_text())["init"]
    assert record == json.loads((undisturbed / "tiny" / "environment.json").read_text())["init"]
    lab.train("schedule.epochs=2", init=THEIRS, init_optimizer=True)
    assert "is complete: 2 epochs" in lab.printed.getvalue()
    lab.train("schedule.epochs=2")  # what it began with may be left out


def test_a_run_that_did_not_begin_with_the_file_is_left_alone(lab, trained, tmp_path):
    lab.train(*SHORT)
    before = lab.checkpoint()
    with pytest.raises(CheckpointError, match=r"holds a run that did not start from .*ckpt; .*--from-scratch"):
        lab.train(*SHORT, init=THEIRS)
    assert_same_tensors(lab.checkpoint(), before)
    lab.train(*SHORT, init=THEIRS, from_scratch=True)
    with pytest.raises(CheckpointError, match=rf"a run that started from {THEIRS.resolve()}, not from .*best.pt"):
        lab.train(*SHORT, init=trained.path("best"))
    with pytest.raises(CheckpointError, match=r"a run that started without --init-optimizer, now with it"):
        lab.train(*SHORT, init=THEIRS, init_optimizer=True)


def test_a_file_that_changed_or_went_since(lab, tmp_path):
    file = tmp_path / "file.ckpt"
    shutil.copy(THEIRS, file)
    lab.train(*SHORT, init=file)
    file.unlink()
    lab.train(*SHORT, init=file)
    assert "is complete: 1 epochs" in lab.printed.getvalue()
    with pytest.raises(CheckpointError, match=r"other.ckpt: no such checkpoint, and .* started from another file"):
        lab.train(*SHORT, init=tmp_path / "other.ckpt")
    save(fresh_network(), file)
    with pytest.raises(CheckpointError, match=r"a run that started from an earlier content of .*file.ckpt"):
        lab.train(*SHORT, init=file)


def test_options_that_contradict_each_other_are_one_line(lab, trained):
    with pytest.raises(ConfigError, match=r"--init-optimizer: found without --init, allowed: beside --init FILE"):
        lab.train(init_optimizer=True)
    with pytest.raises(ConfigError, match=r"--init-optimizer: found with optimizer.momentum 0"):
        lab.train("optimizer.momentum=0", "optimizer.nesterov=false", init=THEIRS, init_optimizer=True)
    with pytest.raises(CheckpointError, match=r"nowhere.pt: no such checkpoint"):
        lab.train(init=Path("nowhere.pt"))


def test_from_scratch_does_not_remove_what_it_begins_with(lab):
    lab.train(*SHORT)
    with pytest.raises(ConfigError, match=r"last.pt: lies in .*tiny, which --from-scratch empties; copy it first"):
        lab.train(*SHORT, init=lab.path(), from_scratch=True)
    assert lab.path().is_file()
