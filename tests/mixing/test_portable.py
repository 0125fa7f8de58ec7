"""Logarithm, exponential and cube root that are the same to the last bit on every processor."""

import hashlib
from decimal import Decimal, localcontext

import numpy as np
import pytest

from mixmo_fast.mixing.portable import cube_root, exp, log


def numbers(count: int) -> np.ndarray:
    """float64 (count,) in (0, 1), spread evenly, by integers and one exact product."""
    return ((np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(12)) + 0.5) * 2.0**-52


def exact(name: str, x: float) -> Decimal:
    with localcontext(prec=60):
        x = Decimal(x)
        return {"log": x.ln, "exp": x.exp}[name]() if name != "cube_root" else x ** (Decimal(1) / 3)


@pytest.mark.parametrize(
    ("function", "digest"), [(log, "9ab741e9df1f15b5"), (cube_root, "195f967661687940"), (exp, "fb4610cf1c779450")]
)
def test_every_bit_is_the_one_that_it_was_on_the_first_processor(function, digest):
    assert hashlib.sha256(function(numbers(100_000)).tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize("function", [log, cube_root, exp])
def test_results_are_right_to_the_last_place(function):
    x = np.concatenate([numbers(300), 1 - numbers(100) * 1e-6, numbers(100) * 2.0**-52, [2.0**-53, 1 - 2.0**-53]])
    for argument, found in zip(x.tolist(), function(x).tolist(), strict=True):
        wrong = abs(Decimal(found) - exact(function.__name__, argument)) / Decimal(float(np.spacing(abs(found))))
        assert wrong < 1, argument


def test_exponentials_of_large_numbers_are_right_too():
    for x in (np.linspace(-700, 700, 401) + numbers(401)).tolist():
        found = float(exp(np.array([x]))[0])
        assert abs(Decimal(found) - exact("exp", x)) / Decimal(float(np.spacing(found))) < 1.5, x


def test_what_is_exact_stays_exact():
    assert log(np.array([1.0])).tolist() == [0.0]
    assert exp(np.array([0.0, -0.0])).tolist() == [1.0, 1.0]
    assert cube_root(np.array([[0.0, 1.0], [0.125, 2.0**-30]])).tolist() == [[0.0, 1.0], [0.5, 2.0**-10]]


@pytest.mark.parametrize("function", [log, cube_root, exp])
def test_the_argument_is_left_as_it_was_whatever_its_layout(function):
    x = numbers(60).reshape(3, 4, 5)
    before = x.copy()
    np.testing.assert_array_equal(function(x.transpose(2, 0, 1)), function(x).transpose(2, 0, 1))
    np.testing.assert_array_equal(x, before)
