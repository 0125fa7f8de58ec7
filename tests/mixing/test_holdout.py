"""Images kept out of training: never seen by any member, as image or partner, whatever the pipeline."""

import numpy as np
import pytest
from recipes import recipe

from mixmo_fast.config.load import parse_config
from mixmo_fast.errors import ConfigError
from mixmo_fast.mixing.holdout import held_out_images, training_images
from mixmo_fast.mixing.plan import draw_plan_block
from mixmo_fast.run import build
from mixmo_fast.training.precision import choose_precision
from pipelines.datasets.store import open_dataset


def test_held_out_and_trained_images_are_the_whole_set_and_chosen_uniformly():
    held, trained = held_out_images(1000, 250, seed=3), training_images(1000, 250, seed=3)
    assert len(held) == 250
    assert sorted([*held, *trained]) == list(range(1000))
    assert list(held) == sorted(held)
    assert not np.array_equal(held, held_out_images(1000, 250, seed=4))
    counts = np.zeros(1000)
    for seed in range(400):
        counts[held_out_images(1000, 250, seed)] += 1
    # Binomial(400, 1/4): five standard deviations are 43.
    assert abs(counts - 100).max() < 50


def test_no_member_ever_sees_a_held_out_image():
    one = recipe(images=600, rows=32, held_out=200)
    assert one.steps_per_epoch == 400 * 4 // 32
    seen = np.concatenate([draw_plan_block(one, 5, epoch, 0, one.steps_per_epoch).index.ravel() for epoch in (1, 2)])
    assert set(seen.tolist()) == set(training_images(600, 200, 5).tolist())


def test_an_epoch_still_shows_every_trained_image_b_times():
    one = recipe(images=600, rows=32, held_out=200, msda=None)
    index = draw_plan_block(one, 5, 1, 0, one.steps_per_epoch).index[:, :, 1, 0]
    images, counts = np.unique(index, return_counts=True)
    assert np.array_equal(images, training_images(600, 200, 5))
    assert (counts == 4).all()


def test_nothing_changes_where_nothing_is_held_out():
    first, second = (draw_plan_block(recipe(**changes), 1, 1, 0, 3) for changes in ({}, {"held_out": 0}))
    assert np.array_equal(first.index, second.index)


CONFIG = """
data: {dataset: digits, holdout: 0.25, crop_padding: 0}
network: {kind: wide_resnet, depth: 10, width: 1}
batch: {rows: 128}
optimizer: {lr: 0.05, weight_decay: 0.0006}
schedule: {epochs: 1, warmup_steps: 1, milestones: {}}
"""


@pytest.mark.parametrize("pipeline", ["resident", "reference"])
def test_a_pipeline_delivers_the_trained_images_only(digits, pipeline):
    config = parse_config(CONFIG, "test")
    dataset = open_dataset(digits, "digits")
    device = build.choose_device("cpu")
    batches = build.make_training_batches(
        config, dataset, build.PipelineOptions(pipeline, workers=1), device, choose_precision("fp32", device)
    )
    try:
        assert batches.steps_per_epoch == (1438 - 359) // 128
        shown = [image.numpy().tobytes() for batch in batches.epoch(1) for image in batch.images.contiguous()]
    finally:
        batches.close()
    held = build.make_held_out_batches(config, dataset, device, choose_precision("fp32", device))
    kept = [image.numpy().tobytes() for images, _ in held for image in images.contiguous()]
    assert len(kept) == 359
    labels = np.concatenate([labels.numpy() for _, labels in held])
    assert np.array_equal(labels, dataset.load_labels("train")[held_out_images(1438, 359, config.seed)])
    assert len(shown) == 1024
    assert not {*shown} & {*kept}  # among the digits no two images are alike


def test_more_rows_than_are_left_are_refused(digits):
    config = parse_config(CONFIG.replace("0.25", "0.95"), "test")
    with pytest.raises(ConfigError, match=r"128 rows are more than 72 training images of digits"):
        build.make_recipe(config, open_dataset(digits, "digits"))
