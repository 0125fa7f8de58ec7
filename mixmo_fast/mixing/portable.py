"""Logarithm, exponential and cube root whose last bit is the same on every processor.

numpy picks a version of its functions by the processor's instruction set, and they differ in the last bit, as do those
of the C libraries below them. Here is nothing but IEEE 754's basic operations on float64, each of which has one right
result, and integers. What plans need besides (sums, products, quotients, `sqrt`) is of that kind already; `power`, the
other functions of numpy and scipy and products of matrices are not, so plans of ratios that are neither 0 nor a whole
number up to 8, of weight roots other than 1 and 3, and of CowMasks may differ in a last bit between processors.
"""

from math import factorial

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MANTISSA_BITS = 52
SQRT_HALF = np.float64(0.5**0.5).view(np.int64)  # as an integer: exponent and mantissa, which order as the numbers do

# log(1 + f) of fdlibm (Sun Microsystems, 1993): a series in s = f / (2 + f), and ln 2 in two parts, of which the first
# has so few bits that its product with an exponent is exact.
SERIES = (
    *(6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01, 2.222219843214978396e-01),
    *(1.818357216161805012e-01, 1.531383769920937332e-01, 1.479819860511658591e-01),
)
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10

THIRD_OF_BIAS = 0x2A9F7893_00000000  # of the exponent, less what makes the first guess good to 5 bits
EXPONENT_BIAS = 1023
# 1 / n!, as far as it counts for numbers up to half of ln 2.
EXP_SERIES = tuple(1.0 / factorial(n) for n in range(14))

HALLEY_STEPS = 3  # each triples the bits: 5, 15, 45, all


def log(x: Floats) -> Floats:
    """Natural logarithm of positive normal numbers (...): float64 (...), wrong by less than one unit in the last place.

    x = 2**k * (1 + f) with 1 + f between sqrt(1/2) and sqrt(2).
    """
    bits = np.ascontiguousarray(x).view(np.int64)
    exponent = (bits - SQRT_HALF) >> MANTISSA_BITS
    f = (bits - (exponent << MANTISSA_BITS)).view(np.float64)
    f -= 1.0
    k = exponent.astype(np.float64)
    s = f / (f + 2.0)
    z = s * s
    series = z * SERIES[-1]
    for coefficient in SERIES[-2::-1]:
        series += coefficient
        series *= z
    half_square = 0.5 * f
    half_square *= f
    series += half_square
    series *= s
    series += k * LN2_LOW
    np.subtract(half_square, series, out=series)
    series -= f
    k *= LN2_HIGH
    k -= series
    return k


def exp(x: Floats) -> Floats:
    """Exponential of numbers (...) from -700 to 700: float64 (...), wrong by about one unit in the last place at most.

    x = k * ln 2 + r with r between -ln 2 / 2 and ln 2 / 2.
    """
    k = np.rint(x / (LN2_HIGH + LN2_LOW))
    r = (x - k * LN2_HIGH) - k * LN2_LOW
    series = np.full_like(r, EXP_SERIES[-1])
    for coefficient in EXP_SERIES[-2::-1]:
        series *= r
        series += coefficient
    return series * ((k.astype(np.int64) + EXPONENT_BIAS) << MANTISSA_BITS).view(np.float64)


def cube_root(x: Floats) -> Floats:
    """Cube root of numbers from 0 on (...): float64 (...), wrong by about one unit in the last place at most.

    A third of a number's exponent and mantissa, as an integer, is a guess of its root; Halley's steps do the rest.
    """
    root = (np.ascontiguousarray(x).view(np.int64) // 3 + THIRD_OF_BIAS).view(np.float64)
    for _ in range(HALLEY_STEPS):
        cube = root * root
        cube *= root
        step = x - cube
        cube *= 2.0
        cube += x
        step /= cube
        step *= root
        root += step
    return np.where(x > 0, root, 0.0)
