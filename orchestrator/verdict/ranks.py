"""The exact rank test of Mann and Whitney (1947), which assumes no shape of the noise. Pure."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def rank_chance(old: Sequence[float], new: Sequence[float]) -> float:
    """The exact probability that the new runs' rank sum is as high as it is, if all orders are equally likely
    (one-sided; equal values share their mean rank).
    """
    every = sorted([*old, *new])
    doubled: dict[float, int] = {}
    start = 0
    while start < len(every):
        end = start
        while end < len(every) and every[end] == every[start]:
            end += 1
        doubled[every[start]] = start + 1 + end  # twice the mean of ranks start+1 .. end
        start = end
    total = sum(doubled[value] for value in new)
    return _upper_tail(tuple(doubled[value] for value in every), len(new), total)


@lru_cache(maxsize=256)
def _upper_tail(doubled_ranks: tuple[int, ...], size: int, total: int) -> float:
    """Share of all choices of `size` ranks whose sum is at least `total`."""
    ways: list[dict[int, int]] = [{0: 1}, *({} for _ in range(size))]
    for rank in doubled_ranks:
        for taken in range(size, 0, -1):
            here = ways[taken]
            for subtotal, number in ways[taken - 1].items():
                here[subtotal + rank] = here.get(subtotal + rank, 0) + number
    above = sum(number for subtotal, number in ways[size].items() if subtotal >= total)
    return above / math.comb(len(doubled_ranks), size)
