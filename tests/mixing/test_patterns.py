"""The masks that no box describes: their shapes, means and laws, one family at a time."""

import numpy as np
import pytest

from mixmo_fast.mixing import ratios
from mixmo_fast.mixing.methods import MASKS
from mixmo_fast.mixing.patterns import draw_patterns, uniforms_per_pattern
from mixmo_fast.mixing.places import draw_places
from mixmo_fast.mixing.streams import Draw, Purpose

COUNT, CHANNELS, HEIGHT, WIDTH = 400, 64, 32, 24
SIZE = (CHANNELS, HEIGHT, WIDTH)
MAPS = [name for name, mask in MASKS.items() if mask.place == "map"]
BY_CHANNEL = [name for name, mask in MASKS.items() if mask.place == "channels"]


def drawn(method: str, ratio: float | np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Indicators float64 (n, c, h, w) and values (n, 2)."""
    uniforms = np.random.default_rng(seed).random((COUNT, uniforms_per_pattern(method, *SIZE)))
    pattern, values = draw_patterns(method, np.broadcast_to(ratio, COUNT), uniforms, *SIZE)
    assert pattern.dtype == np.uint8 and pattern.max() <= 128
    return pattern / 128, values


@pytest.mark.parametrize("method", [*MAPS, *BY_CHANNEL])
def test_a_pattern_is_one_map_or_one_value_a_channel(method):
    pattern, _ = drawn(method, 0.4)
    assert pattern.shape[1:] == ((1, HEIGHT, WIDTH) if method in MAPS else (CHANNELS, 1, 1))
    assert (method == "noise") != bool(np.isin(pattern, (0, 1)).all())


@pytest.mark.parametrize("method", ["noise", *BY_CHANNEL])
@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.9])
def test_the_mean_is_the_ratio_where_nothing_is_clipped_or_thresholded(method, ratio):
    pattern, values = drawn(method, ratio)
    # Shifted noise is cut off at 0 and 1, which pulls its mean towards a half: exactly by d**2 / 2 at a shift of d.
    clipped = np.sign(0.5 - ratio) * (ratio - 0.5) ** 2 / 2 if method == "noise" else 0
    assert pattern.mean() == pytest.approx(ratio + clipped, abs=0.02)
    assert (values == (1, 0)).all()


def test_noise_has_its_own_mean_in_every_mask():
    pattern, _ = drawn("noise", 0.5)
    np.testing.assert_allclose(pattern.mean(axis=(1, 2, 3)), 0.5, atol=2e-3)
    assert np.unique(pattern).size == 129


def test_a_cow_is_smooth_and_covers_a_fifth_to_four_fifths_whatever_the_ratio():
    pattern, _ = drawn("cow", 0.01)
    share = pattern.mean(axis=(1, 2, 3))
    assert share.mean() == pytest.approx(0.5, abs=0.03)
    assert share.std() == pytest.approx(0.6 / np.sqrt(12), abs=0.03)  # uniform on 0.2 to 0.8
    changes = (np.diff(pattern[:, 0], axis=2) != 0).mean()
    assert 0 < changes < 0.06  # half of all neighbours would differ in white noise
    # The same noise and level, blurred with the smallest and the largest sigma: the wider one has fewer borders.
    uniforms = np.random.default_rng(0).random((COUNT, uniforms_per_pattern("cow", *SIZE)))
    borders = []
    for sigma in (1e-9, 1 - 1e-9):
        uniforms[:, 1] = sigma
        borders.append(
            np.diff(draw_patterns("cow", np.full(COUNT, 0.5), uniforms, *SIZE)[0][:, 0] == 128, axis=2).sum()
        )
    assert borders[1] < 0.7 * borders[0]


def test_a_cow_is_its_noise_blurred_and_thresholded_pixel_by_pixel():
    from scipy.special import ndtri

    uniforms = np.random.default_rng(3).random((1, HEIGHT * WIDTH + 2))
    pattern, _ = draw_patterns("cow", np.array([0.5]), uniforms, *SIZE)
    level, sigma = 0.2 + 0.6 * uniforms[0, 0], 4 * (16 / 4) ** uniforms[0, 1]
    noise = ndtri(uniforms[0, 2:]).reshape(HEIGHT, WIDTH)
    kernel = np.exp(-(np.arange(-48, 49) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    rows = np.stack([np.convolve(line, kernel)[48 : 48 + WIDTH] for line in noise])
    blurred = np.stack([np.convolve(line, kernel)[48 : 48 + HEIGHT] for line in rows.T]).T
    expected = blurred <= blurred.mean() + blurred.std(ddof=1) * ndtri(level)
    np.testing.assert_array_equal(pattern[0, 0] == 128, expected)


def test_a_cows_level_is_by_the_unbiased_deviation_and_belongs_to_the_inside():
    """Of two pixels' values each is deviation / sqrt(2) from their mean: at the levels 0.24 and 0.76."""
    uniforms = np.full((3, 4), 0.5)
    uniforms[:2, 2:] = 0.3, 0.8
    uniforms[:, 0] = (np.array([0.75, 0.77, 0.5]) - 0.2) / 0.6
    pattern, _ = draw_patterns("cow", np.full(3, 0.5), uniforms, 1, 1, 2)
    # By the biased deviation these were 0.16 and 0.84, and the second mask the first one. Equal values are inside.
    assert (pattern[:, 0, 0] / 128).tolist() == [[1, 0], [1, 1], [1, 1]]


@pytest.mark.parametrize("method", ["patchuphard", "patchupsoft"])
def test_patchup_dilates_each_seed_to_a_block_of_seven(method):
    uniforms = np.ones((1, HEIGHT * WIDTH)) - 1e-9
    uniforms[0, 10 * WIDTH + 5] = 0
    uniforms[0, 0] = 0
    pattern, values = draw_patterns(method, np.array([0.3]), uniforms, *SIZE)
    expected = np.zeros((HEIGHT, WIDTH))
    expected[7:14, 2:9] = expected[:4, :4] = 1
    np.testing.assert_array_equal(pattern[0, 0] == 128, expected == 1)
    np.testing.assert_array_equal(values[0], (1, 0.3 if method == "patchupsoft" else 0))


def test_patchup_seeds_have_the_rate_of_the_paper():
    ratio = 0.4
    gamma = ratio * HEIGHT * WIDTH / (49 * (HEIGHT - 6) * (WIDTH - 6))
    pattern, _ = drawn("patchuphard", ratio)
    inner = pattern[:, 0, 3:-3, 3:-3]  # where all 49 possible seeds lie on the map
    assert inner.mean() == pytest.approx(1 - (1 - gamma) ** 49, abs=0.02)


def test_stacked_channels_are_the_first_or_the_last_ones():
    pattern, _ = drawn("stackchannel", 0.3)
    channels = pattern[:, :, 0, 0]
    first = channels[:, 0] == 1
    # Of 64 channels the first int(19.2), or those from int(44.8) on: 19 or 20 of them.
    np.testing.assert_array_equal(channels[first], np.broadcast_to(np.arange(CHANNELS) < 19, channels[first].shape))
    np.testing.assert_array_equal(channels[~first], np.broadcast_to(np.arange(CHANNELS) >= 44, channels[~first].shape))
    assert first.mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("axis", [0, 1])
def test_stacks_split_one_axis_and_a_coin_chooses_the_side(axis):
    size = (HEIGHT, WIDTH)[axis]
    boxes = ratios.draw_stacks(np.array([0.3, 0.3, 0.0, 1.0]), np.array([0.2, 0.7, 0.2, 0.2]), HEIGHT, WIDTH, axis)
    # With the coin the ratio becomes 1 - ratio and the sides swap, so the second side may have one line more.
    spans = [(0, int(0.3 * size)), (int(0.7 * size), size), (0, 0), (0, size)]
    for box, span in zip(boxes, spans, strict=True):
        other = (0, (HEIGHT, WIDTH)[1 - axis])
        assert (tuple(box[:2]), tuple(box[2:])) == ((span, other) if axis == 0 else (other, span))


@pytest.mark.parametrize(("method", "split"), [("stackhorizontal", 0), ("stackvertical", 1)])
def test_a_horizontal_stack_splits_the_rows_and_a_vertical_one_the_columns(method, split):
    ratio, draw = np.full((1, 50), 0.3), Draw(seed=1, epoch=1, first_step=0, steps=1)
    box, *_ = draw_places(
        method, ratio, ratio > 0, draw, Purpose.MIXING_BOX, Purpose.MIXING_PATTERN, CHANNELS, (HEIGHT, WIDTH)
    )
    spans = box[0].reshape(50, 2, 2)  # of rows and of columns
    assert (spans[:, 1 - split] == (0, (WIDTH, HEIGHT)[split])).all()
    size = (HEIGHT, WIDTH)[split]
    assert {tuple(span) for span in spans[:, split].tolist()} == {(0, int(0.3 * size)), (int(0.7 * size), size)}
