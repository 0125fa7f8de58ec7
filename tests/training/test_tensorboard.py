"""What TensorBoard shows of a run, read back with TensorBoard's own reader."""

import io
import shutil

import numpy as np
import pytest
from lab import STEPS, Lab, loss_by_step, read_events, read_history, stopped_at
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata, plugin_data_pb2

from mixmo_fast.runfolder.records import Epoch
from mixmo_fast.training import loop
from mixmo_fast.training.checkpoint import load_checkpoint, save_checkpoint
from mixmo_fast.training.runlog import RunLog


@pytest.fixture(scope="module")
def events(trained) -> EventAccumulator:
    return read_events(trained.run)


def test_every_score_is_a_curve(events, trained):
    history = read_history(trained.run)
    test = {f"test/{name}": name for name in ("top1", "nll", "ece")}
    train = {"train/loss": "train_loss", "train/learning_rate": "learning_rate", "train/top1": "train_top1"}
    others = {"speed/rows_per_second": "rows_per_second", "members/disagreement": "disagreement"}
    for tag, name in (test | train | others).items():
        values = events.Scalars(tag)
        assert [value.step for value in values] == [1, 2, 3, 4]
        assert [value.value for value in values] == pytest.approx([row[name] for row in history], rel=1e-6)
    for member in (0, 1):
        values = [value.value for value in events.Scalars(f"members/top1/{member}")]
        assert values == pytest.approx([row["member_top1"][member] for row in history], rel=1e-6)


def test_curves_stand_in_groups(events):
    groups = {tag.partition("/")[0] for tag in events.Tags()["scalars"]}
    assert groups == {"train", "test", "members", "speed", "final"}


def test_the_loss_is_a_curve_by_step_too(trained):
    points = loss_by_step(trained.run)
    assert list(points) == list(range(1, 4 * STEPS + 1))
    for row in read_history(trained.run):
        end = row["epoch"] * STEPS
        of_epoch = [points[step] for step in range(end - STEPS + 1, end + 1)]
        assert np.mean(of_epoch) == pytest.approx(row["train_loss"], rel=1e-6)
        assert min(of_epoch) < max(of_epoch)


def test_long_epochs_have_means_over_steps(lab, trained, monkeypatch):
    """Four points an epoch of eleven steps, the last of them over two; stopped within the second of these."""
    single = loss_by_step(trained.run)
    monkeypatch.setattr(loop, "_LOSSES_AN_EPOCH", 4)
    stopped_at(lab, monkeypatch, (2, 3))
    lab.train()
    points = loss_by_step(lab.run)
    assert list(points) == [STEPS * epoch + step for epoch in range(4) for step in (3, 6, 9, 11)]
    for step, mean in points.items():
        window = range(step - (1 if step % STEPS == 0 else 2), step + 1)
        assert mean == pytest.approx(np.mean([single[one] for one in window]), rel=1e-6)


def test_a_run_that_was_stopped_has_every_point_once(lab, trained, monkeypatch):
    """Within epochs and behind one, twice before there is any epoch."""
    stopped_at(lab, monkeypatch, (1, 3), (1, 7), (2, STEPS - 1), (4, 1))
    lab.train()
    assert loss_by_step(lab.run) == loss_by_step(trained.run)
    for tag in ("train/loss", "test/top1"):
        curves = [
            [(point.step, point.value) for point in read_events(run).Scalars(tag)] for run in (lab.run, trained.run)
        ]
        assert curves[0] == curves[1]


def test_a_run_that_was_killed_behind_its_checkpoint_has_every_point_once(tmp_path, digits, trained):
    lab = Lab(tmp_path, digits)
    shutil.copytree(trained.run, lab.run)
    shutil.copyfile(lab.path("epoch_0002"), lab.path("last"))
    (lab.run / "summary.json").unlink()
    lab.train()
    assert len(list(lab.run.rglob("events.*"))) == 4
    assert loss_by_step(lab.run) == loss_by_step(trained.run)
    assert [point.step for point in read_events(lab.run).Scalars("train/loss")] == [1, 2, 3, 4]


def test_a_run_stopped_by_an_earlier_version_goes_on_with_a_longer_window(lab, trained, monkeypatch):
    """Which left no losses of the windows before."""
    stopped_at(lab, monkeypatch, (2, 6))
    kept = load_checkpoint(lab.path())
    for rank in kept.within["ranks"]:
        del rank["marks"]
    save_checkpoint(kept, lab.path())
    lab.train()
    points, single = loss_by_step(lab.run), loss_by_step(trained.run)
    assert points.keys() == single.keys() - set(range(STEPS + 1, STEPS + 8))
    assert points[STEPS + 8] == pytest.approx(np.mean([single[STEPS + step] for step in range(1, 9)]), rel=1e-6)


def test_the_mixed_batch_is_a_picture(events, trained):
    (shown,) = events.Images("first_batch")
    pixels = np.asarray(Image.open(io.BytesIO(shown.encoded_image_string)).convert("RGB"))
    assert np.array_equal(pixels, np.asarray(Image.open(trained.run / "first_batch.png").convert("RGB")))


def test_events_that_cannot_be_written_are_one_line(tmp_path):
    (tmp_path / "tensorboard").write_text("in the way")
    lines = []
    with RunLog(tmp_path, [], STEPS, lines.append) as log:
        row = Epoch(epoch=1, learning_rate=0.1, train_loss=2, train_top1=0.5, train_seconds=1, rows_per_second=704)
        log.append(row, [(1, 2.0)])
    (line,) = lines
    assert line.startswith(str(tmp_path / "tensorboard")) and "training goes on without TensorBoard's events" in line
    assert len(read_history(tmp_path)) == 1


def test_hyperparameters_stand_beside_the_final_metrics(events, trained):
    content = events.summary_metadata[metadata.SESSION_START_INFO_TAG].plugin_data.content
    started = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    settings = dict(started.hparams)
    assert settings["network.members"].number_value == 2
    assert settings["mixing.method"].string_value == "patch"
    assert settings["schedule.milestones"].string_value == '{"3": 0.1}'
    assert settings["msda.method"].string_value == "cutmix"
    content = events.summary_metadata[metadata.EXPERIMENT_TAG].plugin_data.content
    experiment = plugin_data_pb2.HParamsPluginData.FromString(content).experiment
    names = {info.name.tag for info in experiment.metric_infos}
    assert names >= {"final/top1_last", "final/top1_best_on_test", "final/nll_last"}
    history = read_history(trained.run)
    (last,) = events.Scalars("final/top1_last")
    assert last.value == pytest.approx(history[-1]["top1"], rel=1e-6)
