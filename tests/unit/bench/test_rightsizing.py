from dataclasses import replace
from pathlib import Path

import pytest

from bench.rightsizing import SHAPES, Demand, killed, recorded, simulate
from orchestrator.config.loader import load_config
from orchestrator.model.outcomes import Outcome

LIMITS = (
    load_config(path=Path(__file__).parents[3] / "profiles.yaml", start=Path.cwd(), env={})
    .profiles["standard"]
    .limits
)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_suggestion_would_have_killed_a_run_of_its_history(shape):
    tally = simulate(shape, 60, seed=7)
    assert (tally.ooms, tally.timeouts, tally.by_record) == (0, 0, 0)
    assert tally.replayed > 500  # so there was something to replay
    assert tally.advice["smaller"] >= 5
    assert tally.advice["larger"] >= 5
    assert tally.memory_after < 0.7 * tally.memory_before


def test_the_judge_sees_kills():
    demand = Demand(memory_bytes=100 << 20, alone_seconds=4.0, beside_seconds=8.0, width=2.0)
    assert killed(demand, LIMITS) is None
    assert killed(demand, replace(LIMITS, memory_bytes=99 << 20)) is Outcome.OOM
    assert killed(demand, replace(LIMITS, cpus=1.0)) is Outcome.TIMEOUT  # 4 and 8 seconds, one after the other
    assert recorded(demand, LIMITS, 3).duration_seconds == 8.0
