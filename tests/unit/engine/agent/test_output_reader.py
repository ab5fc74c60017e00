"""A test's clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from orchestrator.engine.agent.output_reader import AgentOutputReader
from tests.support.handmade import make_assignment

if TYPE_CHECKING:
    from pathlib import Path


def test_the_time_of_a_prepared_test_begins_when_it_is_let_in(tmp_path: Path) -> None:
    """Its first mark and its end may be read together, by an orch that had to wait for a CPU: it was 3 µs then."""
    reading = AgentOutputReader(make_assignment("true"), tmp_path, prepares=True)

    def mark(word: str) -> bytes:
        return f"\n{reading.nonce} {word}\n".encode()

    time.sleep(0.05)
    reading.feed("stdout", mark("begin") + mark("ready"))
    assert reading.prepared
    reading.restart()
    time.sleep(0.1)
    reading.feed("stdout", mark("run") + mark("end") + b"code 0\n" + mark("rest"))
    for word in ("list", "tar", "reset", "over"):
        reading.feed("stdout", mark(word))
    reading.feed("stderr", mark("end"))
    assert reading.complete
    run = reading.result(timed_out=False, interrupted=False)
    reading.close()
    assert run.test_seconds >= 0.1
    assert run.prepare_seconds >= 0.05
