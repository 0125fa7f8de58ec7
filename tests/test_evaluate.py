"""`mixmo-fast evaluate`: the same numbers that training measured, with the settings that were trained."""

import numpy as np
import pytest

from mixmo_fast.evaluate_command import save_predictions
from mixmo_fast.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mixmo_fast.training.runlog import read_history


def test_evaluate_repeats_what_training_measured(trained, tmp_path):
    history = read_history(trained.run)
    for which, epoch in (("last", 4), ("2", 2), ("4", 4), (str(trained.path("epoch_0002")), 2)):
        found = trained.evaluate(which)
        assert found.epoch == epoch
        for name, value in found.scores.as_dict().items():
            assert value == history[epoch - 1][name], name
    by_folder = trained.evaluate("last", trained.run)
    assert by_folder.scores == trained.evaluate("last").scores
    save_predictions(by_folder, tmp_path / "predictions.npz")
    kept = np.load(tmp_path / "predictions.npz")
    assert kept["logits"].shape == (359, 2, 10)
    right = kept["logits"].mean(axis=1).argmax(axis=1) == kept["labels"]
    assert right.mean() == pytest.approx(by_folder.scores.top1)


def test_evaluate_uses_the_configuration_that_was_trained(lab):
    """Overrides on the command line are in the checkpoint, not in the file."""
    lab.train("schedule.epochs=1", "network.width=2")
    assert lab.evaluate().scores.top1 == read_history(lab.run)[0]["top1"]


def test_a_network_trained_in_fp16_is_evaluated_on_a_cpu_in_fp32(lab):
    lab.train("schedule.epochs=1")
    content = vars(load_checkpoint(lab.path()))
    content["config"] = content["config"].replace("precision: fp32", "precision: fp16")
    save_checkpoint(Checkpoint(**content), lab.path())
    assert "fp16" in content["config"]
    assert lab.evaluate().scores.top1 == read_history(lab.run)[0]["top1"]
