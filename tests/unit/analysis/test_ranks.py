"""The rank test against plain enumeration."""

import itertools
import random

import pytest

from orchestrator.analysis.statistics import rank_chance


def test_the_rank_test_is_exact():
    chance = random.Random(2)
    for _ in range(20):
        old, new = [chance.randrange(6) for _ in range(6)], [chance.randrange(2, 8) for _ in range(3)]
        every = old + new
        ranks = [sum(b < a for b in every) + sum(b == a for b in every) / 2 for a in every]
        total = sum(ranks[6:])
        choices = [sum(chosen) >= total - 1e-9 for chosen in itertools.combinations(ranks, 3)]
        assert rank_chance(old, new) == pytest.approx(sum(choices) / len(choices))
