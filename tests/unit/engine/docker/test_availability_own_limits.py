"""New limits that orch itself gives to a container are no disturbance; anybody else's are."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from orchestrator.engine.docker.availability import EngineAvailability
from orchestrator.engine.isolation.attestation import with_memory_limit
from orchestrator.errors import EngineError
from orchestrator.model.evidence import Attestation
from orchestrator.stop_flag import StopFlag
from orchestrator.testing.engine import FakeEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def availability(engine: FakeEngine) -> Iterator[EngineAvailability]:
    made = EngineAvailability(engine, StopFlag())
    made.follow({})
    deadline = time.monotonic() + 5
    while not any(name == "events" for name, _ in engine.calls):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    yield made
    engine.end_events()
    made.close()


def test_only_what_orch_did_not_do_is_a_disturbance(engine: FakeEngine, availability: EngineAvailability) -> None:
    engine.fail("limit_memory", EngineError("no"))
    with pytest.raises(EngineError):
        availability.limit_memory("a", 100 * MIB)
    engine.limit_memory = lambda *_: None  # type: ignore[method-assign]
    availability.limit_memory("a", 100 * MIB)
    engine.emit_event("a", "update")
    assert availability.external_action("a", settle=True) is None
    engine.emit_event("a", "update")
    assert availability.external_action("a", settle=True) == "update"


@pytest.mark.parametrize(("seen", "wrong"), [(162 * MIB, 0), (162 * MIB - 4096, 0), (128 * MIB, 1), (None, 0)])
def test_a_raised_limit_is_attested_as_the_kernel_has_it(seen: int | None, wrong: int) -> None:
    found = Attestation(container_name="a", container_id="b", image_id="c", effective_memory_bytes=128 * MIB)
    assert with_memory_limit(found, asked=0, seen=None) is found
    raised = with_memory_limit(found, asked=162 * MIB, seen=seen)
    assert raised is not None
    assert raised.effective_memory_bytes == (162 * MIB if seen is None else seen)
    assert len(raised.mismatches) == wrong
