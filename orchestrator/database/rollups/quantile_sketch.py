"""How many values are spread, in a few bytes: logarithmic buckets, each 0.1 % wide. Pure.

A value comes back within 0.05 %, whatever its size: the idea of DDSketch (Masson, Rim, Lee: "DDSketch: a fast
and fully-mergeable quantile sketch with relative-error guarantees", VLDB 2019), with buckets that are fixed.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections import Counter
from typing import TYPE_CHECKING

from orchestrator.database.rollups.statistics import rank
from orchestrator.database.rows.encoding import little_endian

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_WIDTH = math.log(1.001)
_LOWEST = 1e-6
_HIGHEST_BUCKET = _MOST = 0xFFFF
_LOW = 0 if sys.byteorder == "little" else 1
"""Where the lower half of a number of four bytes is."""


def bucket(value: float) -> int:
    """Number of the bucket that a value is in: 0 for nothing, then 1 for a millionth and less, up to 65,535."""
    if value <= _LOWEST:
        return int(value > 0)
    return min(1 + round(math.log(value / _LOWEST) / _WIDTH), _HIGHEST_BUCKET)


def value_of(number: int) -> float:
    """What stands for all values in a bucket."""
    return _LOWEST * math.exp((number - 1) * _WIDTH) if number else 0.0


def sketch(values: Iterable[float]) -> bytes:
    """Pairs of bucket and count in ascending order, two bytes each, the lower one first."""
    return _packed(Counter(map(bucket, values)))


def united(sketches: Sequence[bytes]) -> bytes:
    """One sketch of the values of all of them. ValueError for anything that is no sketch."""
    numbers, counts = _columns(sketches)
    found: Counter[int] = Counter()
    for number, count in zip(numbers, counts, strict=True):
        found[number] += count
    return _packed(found)


def keys(sketches: Sequence[bytes]) -> array[int]:
    """Buckets with their counts, in no order, each pair as one number that sorts as its bucket does: nothing is
    done in Python for each of them. ValueError for anything that is no sketch.
    """
    pairs = _pairs(sketches)
    pairs.byteswap()
    found = array("I", pairs.tobytes())
    if sys.byteorder == "little":  # each half was turned around, now the whole is: the halves have changed places
        found.byteswap()
    return found


def keys_of(values: Iterable[float]) -> array[int]:
    """As `keys`, of values that are in no sketch yet."""
    log, lowest, width, most = math.log, _LOWEST, _WIDTH, _HIGHEST_BUCKET
    numbers = [  # as `bucket`, of which the call alone would take half the time
        min(1 + round(log(value / lowest) / width), most) if value > lowest else int(value > 0) for value in values
    ]
    return array("I", [number << 16 | 1 for number in numbers])


class SortedKeys:
    """Keys put in order, for percentiles."""

    def __init__(self, keys: array[int]) -> None:
        self._keys = keys.tolist()  # a third quicker than `sorted` of an array
        self._keys.sort()
        self.count = count_of(keys)
        """How many values they stand for."""

    def percentile(self, ratio: float) -> float:
        """Nearest-rank percentile: what stands for the bucket that has it. IndexError if there is nothing."""
        keys, wanted = self._keys, rank(ratio, self.count)
        place = below = 0
        if self.count <= _MOST:  # then the lower half of a sum of keys is a sum of counts: go on from a near place
            place = len(keys) * wanted // self.count
            if 2 * place < len(keys):
                below = sum(keys[:place]) & _MOST
            else:
                below = self.count - (sum(keys[place:]) & _MOST)
        while below >= wanted:
            place -= 1
            below -= keys[place] & _MOST
        while below < wanted:
            below += keys[place] & _MOST
            place += 1
        return value_of(keys[place - 1] >> 16)


def count_of(keys: array[int]) -> int:
    """How many values they stand for."""
    return sum(array("H", keys.tobytes())[_LOW::2])


def _packed(found: Counter[int]) -> bytes:
    pairs = array("H")
    for number, count in sorted(found.items()):
        for start in range(0, count, _MOST):
            pairs.extend((number, min(count - start, _MOST)))
    return little_endian(pairs).tobytes()


def _columns(sketches: Sequence[bytes]) -> tuple[array[int], array[int]]:
    pairs = little_endian(_pairs(sketches))
    return pairs[::2], pairs[1::2]


def _pairs(sketches: Sequence[bytes]) -> array[int]:
    """As they are stored, whatever the machine's order of bytes."""
    pairs = array("H", b"".join(sketches))
    if len(pairs) % 2:
        raise ValueError("a sketch is cut short")
    return pairs
