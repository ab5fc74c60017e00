"""An engine elsewhere: its statistics are used if no agent's record comes back."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from orchestrator.engine.docker.engine import open_engine
from orchestrator.engine.metering.stats_feed import StatsFeed
from orchestrator.measure.sampler import Sampler
from orchestrator.model.usage import Source
from orchestrator.stop_flag import StopLevel
from tests.docker.test_slots_real import Bench
from tests.support.handmade import make_assignment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orchestrator.engine.base import Engine
    from orchestrator.model.evidence import Evidence

pytestmark = pytest.mark.docker
BURN = "while :; do :; done"


@pytest.fixture
def remote(engine: Engine) -> Iterator[Engine]:
    """Return the real engine, treated as if it shared neither kernel nor files with orch."""
    opened = open_engine()
    opened._info = replace(opened.info, local=False)  # type: ignore[attr-defined]
    yield opened
    opened.close()


@pytest.fixture
def sampler() -> Iterator[Sampler]:
    with Sampler(0.1) as started:
        yield started


@pytest.fixture
def bench(remote: Engine, busybox_image: str, tmp_path: Path, sampler: Sampler) -> Iterator[Bench]:
    made = Bench(remote, busybox_image, tmp_path, sampler)
    yield made
    assert made.traces() == []


def stats_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "orch-stats"]


def test_a_short_test_has_the_agents_figures_and_no_stream(bench: Bench) -> None:
    evidence = bench.sh("exit 3")
    assert evidence.agent is not None
    assert evidence.usage.sources["cpu_seconds"] is Source.AGENT
    assert evidence.usage.sources["memory_peak_bytes"] is Source.AGENT
    assert evidence.samples == ()
    assert stats_threads() == []


def test_a_long_test_has_samples_from_one_stream_that_ends_with_it(bench: Bench) -> None:
    evidence = bench.sh(f"timeout 5 sh -c '{BURN}'; true", timeout_seconds=30.0)
    assert evidence.agent is not None
    assert 2 <= len(evidence.samples) <= 8
    assert evidence.samples[-1].memory_bytes is not None
    seconds = [sample.cpu_seconds for sample in evidence.samples if sample.cpu_seconds is not None]
    assert seconds == sorted(seconds)
    assert seconds[-1] > 0.1
    assert evidence.usage.sources["cpu_seconds"] is Source.AGENT
    assert evidence.usage.disagreements == {}
    assert stats_threads() == []


def check_engine_figures(evidence: Evidence) -> None:
    usage = evidence.usage
    assert evidence.agent is None
    assert usage.cpu_seconds is not None
    assert usage.cpu_seconds > 0.1
    assert usage.sources["cpu_seconds"] is Source.STATS
    assert usage.memory_peak_bytes is not None
    assert usage.sources["memory_peak_bytes"] is Source.STATS
    assert stats_threads() == []


def test_a_container_that_the_engine_had_to_kill_has_the_engines_figures(bench: Bench) -> None:
    # the engine kills the container at once, so the agent writes no record
    text = f"i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo burnt; {BURN}"
    evidence = bench.sh(text, once_said=lambda: bench.stop.set(StopLevel.KILL, "test"), timeout_seconds=60.0)
    assert evidence.interrupted
    check_engine_figures(evidence)


def test_a_test_without_an_agent_has_the_engines_figures(
    remote: Engine, shell_less_image: str, tmp_path: Path, sampler: Sampler
) -> None:
    bench = Bench(remote, shell_less_image, tmp_path, sampler)
    place = tmp_path / "attempt"
    place.mkdir()
    assignment = make_assignment("/busybox", "sh", "-c", BURN, run_id=bench.run_id, timeout_seconds=2.5)
    evidence = bench.executor.run(assignment, 0.0, place)
    assert evidence.timed_out
    assert not evidence.agent_expected
    check_engine_figures(evidence)
    assert bench.traces() == []


def test_closing_wakes_a_reader(remote: Engine, bench: Bench) -> None:
    """The best of three: one alone may be late because the machine is busy. Each is closed when the next
    statistics are most of a second away.
    """
    closed: list[float] = []
    alive: list[bool] = []

    def look() -> None:
        (name,) = bench.containers()
        for _ in range(3):
            deadline = time.monotonic() + 20
            feed = StatsFeed(remote, name, delay_seconds=0.0)
            while feed.newest is None and time.monotonic() < deadline:
                time.sleep(0.02)
            began = time.monotonic()
            feed.close()
            closed.append(time.monotonic() - began)
            alive.append(feed._thread.is_alive())
        bench.stop.set(StopLevel.KILL)

    bench.sh("echo begun; exec sleep 90", once_said=look, timeout_seconds=120.0)
    assert min(closed) < 0.5
    assert alive == [False] * 3
