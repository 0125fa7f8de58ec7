"""What TensorBoard shows of a run, read back with TensorBoard's own reader."""

import io

import numpy as np
import pytest
from lab import read_history
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata, plugin_data_pb2


@pytest.fixture(scope="module")
def events(trained) -> EventAccumulator:
    found = EventAccumulator(str(trained.run / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    found.Reload()
    return found


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


def test_the_mixed_batch_is_a_picture(events, trained):
    (shown,) = events.Images("first_batch")
    pixels = np.asarray(Image.open(io.BytesIO(shown.encoded_image_string)).convert("RGB"))
    assert np.array_equal(pixels, np.asarray(Image.open(trained.run / "first_batch.png").convert("RGB")))


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
