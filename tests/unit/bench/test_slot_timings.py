from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from bench.slot_timings import SlotTiming, gaps, main, slot_timings, timings_table

if TYPE_CHECKING:
    from pathlib import Path

TIMES = {"create_seconds": 0.1, "start_seconds": 0.2, "duration_seconds": 0.3, "teardown_seconds": 0.4}


def timing(container: str | None, position: int, started: float, seconds: float) -> SlotTiming:
    phases = dict.fromkeys(("create_seconds", "start_seconds", "teardown_seconds"), 0.001)
    return SlotTiming(
        container=container,
        position=position,
        started=started,
        phase_seconds={**phases, "duration_seconds": seconds},
    )


def test_gaps_are_within_a_container() -> None:
    found = gaps([timing("a", 2, 10.5, 0.1), timing("b", 1, 10.2, 9), timing("a", 1, 10.0, 0.4)])
    assert found == pytest.approx([0.1])
    assert gaps([timing(None, 1, 1, 0.1), timing(None, 1, 2, 0.1)]) == []


def test_timings_are_read_from_run_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = {"started_at": "1970-01-01T00:00:10+00:00", **TIMES}
    known = {**common, "slot": {"position": 3}, "attestation": {"container_id": "c"}}
    unknown = {**common, "slot": None, "attestation": None}
    document = {"tests": [{"attempts": [known, unknown]}]}
    first, second = slot_timings(document)
    assert (first.container, first.position, first.started, first.phase_seconds) == ("c", 3, 10.0, TIMES)
    assert (second.container, second.position) == (None, 1)
    (tmp_path / "run.json").write_text(json.dumps(document))
    assert main([str(tmp_path / "run.json")]) == 0
    assert "| later in their slot | 1 | 100.00 ms | 200.00 ms | 300.00 ms | 400.00 ms |" in capsys.readouterr().out


def test_the_table() -> None:
    table = timings_table([timing("a", 1, 1.0, 0.004), timing("a", 2, 1.006, 0.004)])
    assert "| first in their slot | 1 | 1.00 ms | 1.00 ms | 4.00 ms | 1.00 ms |" in table
    assert "median 2.00 ms" in table
