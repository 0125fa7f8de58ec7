"""How sure an accuracy is, and that neither an axis nor a dot on another makes it look otherwise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from mixmo_fast.report.accuracy import accuracy_axis, apart, interval_note, wilson

SHARES = st.floats(0, 1)
IMAGES = st.integers(1, 100_000)


@pytest.mark.parametrize(
    ("right", "images", "low", "high"),
    # Scores that Newcombe's table has (Statistics in Medicine 17, 1998, table I, method 3).
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_wilsons(right, images, low, high):
    assert wilson(right / images, images) == pytest.approx((low, high), abs=5e-5)


@given(SHARES, IMAGES)
def test_the_interval_holds_its_share_and_stays_within_0_and_1(share, images):
    low, high = wilson(share, images)
    assert 0 <= low <= share + 1e-12 and share - 1e-12 <= high <= 1
    assert low < high


@given(SHARES, st.integers(1, 10_000))
def test_more_images_make_it_narrower(share, images):
    few, many = wilson(share, images), wilson(share, 4 * images)
    assert many[1] - many[0] < few[1] - few[0]


def test_a_note_says_what_a_single_image_is_worth():
    assert "359 test images; one of them is 0.28 points" in interval_note(359)
    assert interval_note(None) == ""


@given(st.lists(SHARES, min_size=1, max_size=5))
def test_an_axis_spans_two_points_at_least_and_ends_near_100_percent(top1):
    axes = Figure().add_subplot()
    axes.plot(range(len(top1)), top1, "o")
    accuracy_axis(axes, axes.yaxis)
    low, high = axes.get_ylim()
    assert high - low >= 0.02 - 1e-9
    assert low <= min(top1) and max(top1) <= high <= 1 + 0.04 * (high - low)


@given(st.lists(st.integers(0, 20).map(lambda value: value / 10), max_size=8))
def test_what_is_nearly_the_same_is_drawn_apart_and_nothing_else_is_moved(values):
    steps = apart(values, 0.05)
    assert len(set(zip(values, steps, strict=True))) == len(values)
    assert sum(steps) == pytest.approx(0)
    assert all(step == 0 for value, step in zip(values, steps, strict=True) if values.count(value) == 1)
