"""Philox4x64-10 for many counters at once: raw words for places that do not follow one another.

numpy's own Philox is a stream: fast along it, slow to start anew. What is keyed by an image's number needs a few words
at each of many places of one stream, so here is the same generator (Salmon et al. 2011, "Parallel random numbers: as
easy as 1, 2, 3") for arrays of counters; a test holds it to numpy's, bit for bit.

Shapes: D places, n words of each.
"""

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

ROUNDS = 10
MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
KEY_STEPS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_ALL_BITS = (1 << 64) - 1
LOW_BITS = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
WORDS_PER_COUNT = 4  # 64-bit words for each value of the counter


def words_at(key: tuple[int, int], second: Words, third: Words, count: int) -> Words:
    """The first words of `numpy.random.Philox(key=key, counter=[0, second, third, 0])`, for arrays of such counters.

    Args:
        key: Two numbers below 2**64.
        second: uint64 (D,), the counter's second word.
        third: uint64 (D,), its third.
        count: n, how many words of each.

    Returns:
        uint64 (D, n).
    """
    counts = -(-count // WORDS_PER_COUNT)
    # numpy counts up before it draws, so the first four words are those of 1.
    first = np.broadcast_to(np.arange(1, counts + 1, dtype=np.uint64), (len(second), counts))
    state = [first, second[:, None], third[:, None], np.zeros((1, 1), dtype=np.uint64)]
    for round_number in range(ROUNDS):
        keys = [np.uint64((k + round_number * step) & _ALL_BITS) for k, step in zip(key, KEY_STEPS, strict=True)]
        high_0, low_0 = _multiply(MULTIPLIERS[0], state[0])
        high_1, low_1 = _multiply(MULTIPLIERS[1], state[2])
        state = [high_1 ^ state[1] ^ keys[0], low_1, high_0 ^ state[3] ^ keys[1], low_0]
    words = np.stack(np.broadcast_arrays(*state), axis=-1)
    return words.reshape(len(second), -1)[:, :count]


def _multiply(multiplier: int, words: Words) -> tuple[Words, Words]:
    """The upper and the lower 64 bits of a product of 128, for which numpy has no type."""
    m_high, m_low = np.uint64(multiplier >> 32), np.uint64(multiplier & 0xFFFFFFFF)
    high, low = words >> HALF, words & LOW_BITS
    middle = m_high * low + (m_low * low >> HALF)  # none of these sums reaches 2**64
    other = m_low * high + (middle & LOW_BITS)
    return m_high * high + (middle >> HALF) + (other >> HALF), words * np.uint64(multiplier)
