"""A run that is made longer: as if it had been that long from the start, or not at all."""

import itertools

import pytest
from lab import CONFIG, Lab, assert_same_tensors, read_history, repeatable

from mixmo_fast.config.load import check_config, parse_config
from mixmo_fast.errors import CheckpointError, ConfigError
from mixmo_fast.training import loop
from mixmo_fast.training.resume import first_difference

SINGLE = CONFIG.replace("members: 2", "members: 1").replace("mixing: {method: patch, prob: 0.5}\n", "")
STEADY = ("mixing.decay_from=1",)
ALL_IMAGES = ("data.holdout=0", "batch.rows=128")  # of which it learns more every epoch


def uninterrupted(lab: Lab, *overrides: str, text: str = CONFIG) -> Lab:
    folder = lab.folder / "whole"
    folder.mkdir()
    place = Lab(folder, lab.data, text)
    place.train(*overrides)
    return place


@pytest.mark.parametrize(
    ("text", "overrides"), [(CONFIG, (*STEADY, *ALL_IMAGES)), (SINGLE, ALL_IMAGES)], ids=["MixMo", "single"]
)
def test_an_extended_run_equals_one_that_was_that_long_bit_for_bit(tmp_path, digits, text, overrides):
    lab = Lab(tmp_path, digits, text)
    lab.train("schedule.epochs=2", *overrides)
    best = lab.checkpoint("best")["epoch"]
    lab.train("schedule.epochs=4", *overrides, extend=True)
    assert "holds 2 epochs: continuing" in lab.printed.getvalue()
    expected = uninterrupted(lab, "schedule.epochs=4", *overrides, text=text)
    # What was kept of the shorter run says that it was shorter, and is the same otherwise.
    short, whole = lab.checkpoint("epoch_0002"), expected.checkpoint("epoch_0002")
    assert "epochs: 2" in short.pop("config") and "epochs: 4" in whole.pop("config")
    assert_same_tensors(short, whole)
    assert_same_tensors(lab.checkpoint(), expected.checkpoint())
    assert best <= 2 < lab.checkpoint("best")["epoch"]
    assert_same_tensors(lab.checkpoint("best"), expected.checkpoint("best"))
    assert repeatable(read_history(lab.run)) == repeatable(read_history(expected.run))
    assert (lab.run / "config.yaml").read_text() == (expected.run / "config.yaml").read_text()
    lab.train("schedule.epochs=4", *overrides)  # no option is needed any more
    assert "is complete: 4 epochs" in lab.printed.getvalue()


def test_a_run_that_stopped_may_be_extended_before_its_masks_began_to_decay(lab, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            lab.train()
    lab.train("schedule.epochs=6", extend=True)
    expected = uninterrupted(lab, "schedule.epochs=6")
    assert_same_tensors(lab.checkpoint(), expected.checkpoint())
    assert repeatable(read_history(lab.run)) == repeatable(read_history(expected.run))


def stop_after(patch: pytest.MonkeyPatch, epochs: int) -> None:
    whole, calls = loop._train_epoch, itertools.count()

    def stopping(*arguments):
        if next(calls) == epochs:
            raise KeyboardInterrupt
        return whole(*arguments)

    patch.setattr(loop, "_train_epoch", stopping)


def test_an_extension_that_stops_is_no_complete_run_and_goes_on(lab, monkeypatch):
    lab.train("schedule.epochs=1", *STEADY)
    with monkeypatch.context() as patch:
        stop_after(patch, 0)
        with pytest.raises(KeyboardInterrupt):
            lab.train("schedule.epochs=3", *STEADY, extend=True)
    assert not (lab.run / "summary.json").exists()
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            lab.train("schedule.epochs=3", *STEADY, extend=True)
    lab.train("schedule.epochs=3", *STEADY, extend=True)
    expected = uninterrupted(lab, "schedule.epochs=3", *STEADY)
    assert_same_tensors(lab.checkpoint(), expected.checkpoint())


def test_more_epochs_without_being_asked_to_extend_says_both_ways_on(lab):
    lab.train("schedule.epochs=1", *STEADY)
    before = lab.checkpoint()
    with pytest.raises(
        ConfigError,
        match=r"tiny is complete at 1 epochs, with other settings \(schedule.epochs: it has 1, now 2\): "
        r"add --extend to go on in this folder, --init .*last.pt with another --name starts a new run",
    ):
        lab.train("schedule.epochs=2", *STEADY)
    assert_same_tensors(lab.checkpoint(), before)
    lab.train("schedule.epochs=2", *STEADY, init=lab.path(), runs=lab.folder / "others")  # as it says
    lab.train("schedule.epochs=2", *STEADY, extend=True)


def test_masks_that_had_begun_to_decay_forbid_it(lab):
    lab.train("schedule.epochs=2")
    before = {path: path.stat().st_mtime_ns for path in lab.run.rglob("*")}
    differs = r"epoch 2: mixing probability 0 then, 0.5 now"
    with pytest.raises(ConfigError, match=rf"--extend: its epochs so far would have been others \({differs}\); --init"):
        lab.train("schedule.epochs=4", extend=True)
    with pytest.raises(ConfigError, match=rf"is complete at 2 epochs, .*--extend cannot \({differs}\), --init .*last"):
        lab.train("schedule.epochs=4")
    assert before == {path: path.stat().st_mtime_ns for path in lab.run.rglob("*")}


def test_other_settings_are_refused_as_ever(lab):
    lab.train("schedule.epochs=1", *STEADY)
    with pytest.raises(ConfigError, match=r"other settings \(optimizer\.\w+: it has .*--from-scratch"):
        lab.train("schedule.epochs=2", *STEADY, "optimizer.lr=0.1", extend=True)
    with pytest.raises(ConfigError, match=r"other settings \(schedule\..*: it has .*--from-scratch"):
        lab.train("schedule.epochs=1", "schedule.warmup_steps=3", *STEADY)
    with pytest.raises(ConfigError, match=r"tiny is a run of 1 epochs, now 1 are asked for; allowed: more"):
        lab.train("schedule.epochs=1", "schedule.warmup_steps=3", *STEADY, extend=True)
    with pytest.raises(ConfigError, match=r"--extend: found with --from-scratch"):
        lab.train(extend=True, from_scratch=True)


def test_there_has_to_be_a_run_to_extend(lab):
    with pytest.raises(CheckpointError, match=r"tiny holds no run to extend; leave out --extend to start one"):
        lab.train(extend=True)
    assert not lab.run.exists()


@pytest.mark.parametrize(
    ("change", "done", "difference"),
    [
        ({}, 4, "epoch 4: mixing probability 0 then, 0.5 now"),
        ({}, 3, None),
        ({"milestones": {3: 0.1, 6: 0.1}}, 3, None),
        ({"milestones": {3: 0.2}}, 2, None),
        ({"milestones": {3: 0.2}}, 3, "epoch 3: learning rate times 0.1 then, times 0.2 now"),
        ({"milestones": {2: 0.1, 3: 0.1}}, 2, "epoch 2: learning rate times 1 then, times 0.1 now"),
        ({"milestones": {}}, 3, "epoch 3: learning rate times 0.1 then, times 1 now"),
        ({"warmup_steps": 23}, 1, "schedule.warmup_steps: 11 then, 23 now"),
    ],
)
def test_the_first_difference_of_the_epochs_so_far_is_named(change, done, difference):
    kept = parse_config(CONFIG, "test")
    tree = kept.model_dump()
    tree["schedule"] |= {"epochs": 8} | change
    assert first_difference(kept, check_config(tree, "test"), done) == difference


@pytest.mark.parametrize("mixing", [{"method": "linear"}, {"method": "patch", "decay_from": 1.0}])
def test_where_no_mask_decays_a_complete_run_fits(mixing):
    tree = parse_config(CONFIG, "test").model_dump() | {"mixing": mixing}
    longer = tree | {"schedule": tree["schedule"] | {"epochs": 8}}
    assert first_difference(check_config(tree, "test"), check_config(longer, "test"), 4) is None
