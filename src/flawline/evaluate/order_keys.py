"""Floats as integers in the same order: what the streaming accumulators bin scores by.

The bit pattern of a positive IEEE float, read as an integer, rises with the number; negative ones are turned round.
Equal steps of the integer are equal *relative* steps of the score, so small scores are resolved as well as large ones
and no range has to be known beforehand. Probabilities crowd at 1 as they do at 0: between 0.5 and 1 the key is that of
the distance to 1 (exact in floating point), turned round. Bins of equal width in the key are then about equally wide in
the logit of a probability.
"""

import numpy as np

_HALF, _ONE = 0x3F000000, 0x3F800000  # bit patterns of 0.5 and 1 in float32
_TOP = 1 << 31
# The smallest distance to 1 is 2**-24. No distance counts as half of that, so that a score of exactly 1, which may be
# that of many saturated pixels, stays apart from its neighbour however wide the bins are.
_NONE = 0x33000000
_ABOVE = 2 * _HALF - _NONE - _ONE
# Scores beyond about 1e30 are one score: their keys have made room for those below 1.
_LAST = 0xFFFFFFFF - _TOP - _ABOVE
# Scores turned at once: the passes over them stay in the processor's cache.
_BLOCK = 1 << 15


def order_keys(scores: np.ndarray) -> np.ndarray:
    """Keys that compare as the scores do; -0.0 equals 0.0, and scores above 1e30 are equal.

    Args:
        scores: finite float32, any shape.

    Returns:
        uint32 of the same shape.
    """
    flat = np.ascontiguousarray(scores, dtype=np.float32).reshape(-1)
    keys = np.empty(flat.shape, dtype=np.uint32)
    for at in range(0, len(flat), _BLOCK):
        _fill(flat[at : at + _BLOCK], keys[at : at + _BLOCK])
    return keys.reshape(scores.shape)


def _fill(scores: np.ndarray, keys: np.ndarray) -> None:
    if scores.min() >= 0 and scores.max() <= 1:
        # The usual case, in few passes: the nearer end of 0..1 counts.
        np.subtract(1, scores, out=keys.view(np.float32))
        np.minimum(scores, keys.view(np.float32), out=keys.view(np.float32))
        keys &= np.uint32(_TOP - 1)  # -0.0
        upper = scores > 0.5
        np.maximum(keys, np.uint32(_NONE), out=keys, where=upper)
        np.subtract(np.uint32(2 * _HALF), keys, out=keys, where=upper)
        keys |= np.uint32(_TOP)
        return
    bits = np.add(scores, 0, dtype=np.float32).view(np.uint32)  # -0.0 + 0 is 0.0
    keys[:] = np.where(bits >= _TOP, ~bits, bits | np.uint32(_TOP))
    above, crowded = scores >= 1, (scores > 0.5) & (scores < 1)
    keys[above] = np.minimum(bits[above], np.uint32(_LAST)) + np.uint32(_ABOVE + _TOP)
    keys[crowded] = order_keys(scores[crowded])


def wide_keys(scores: np.ndarray) -> np.ndarray:
    """Keys uint64 of finite float64 scores, all told apart; -0.0 equals 0.0."""
    bits = np.add(scores, 0, dtype=np.float64).view(np.uint64)
    top = np.uint64(1 << 63)
    return np.where(bits >= top, ~bits, bits | top)


def floor_float32(values: np.ndarray) -> np.ndarray:
    """The largest float32 that is not above each value: a float32 score exceeds both or neither."""
    near = np.asarray(values).astype(np.float32)
    return np.where(near > values, np.nextafter(near, np.float32(-np.inf)), near).astype(np.float32)
