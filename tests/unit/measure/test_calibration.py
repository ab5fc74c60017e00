from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from orchestrator.measure.calibration import FILE, KEPT, calibrate, corrected, key_of, load, store
from orchestrator.model.usage import Source, Usage
from tests.support.handmade import ENGINE

if TYPE_CHECKING:
    from pathlib import Path


def null_test(
    cpu_seconds: float | None, peak: int = 400, floor: int = 900, source: Source = Source.AGENT
) -> Usage:
    return Usage(
        cpu_seconds=cpu_seconds,
        cpu_user_seconds=0.0,
        memory_peak_bytes=peak,
        memory_floor_bytes=floor,
        sources={} if cpu_seconds is None else {"cpu_seconds": source, "cpu_user_seconds": source},
        before_test={"cpu_seconds": 0.02, "memory_peak_bytes": 3000, "pids_peak": 6},
    )


def test_medians_over_null_tests() -> None:
    found = calibrate([null_test(0.002), null_test(0.009, 1100), null_test(0.003, 400, 1000)])
    assert found is not None
    assert (found.runs, found.source) == (3, Source.AGENT)
    assert (found.cpu_seconds, found.cpu_spread_seconds) == (0.003, pytest.approx(0.007))
    assert (found.memory_floor_bytes, found.memory_rise_bytes) == (900, 400)
    assert (found.start_cpu_seconds, found.start_memory_peak_bytes, found.start_pids_peak) == (0.02, 3000, 6)
    assert found.cpu_system_seconds is None


def test_a_peak_that_is_only_a_bound_says_nothing_of_the_rise() -> None:
    bounded = replace(null_test(0.002), memory_peak_is_upper_bound=True)
    found = calibrate([bounded])
    assert found is not None
    assert found.memory_rise_bytes is None


@pytest.mark.parametrize(
    "usages",
    [
        [],
        [null_test(None)],
        [null_test(0.1), null_test(None)],
        [null_test(0.1), null_test(0.1, source=Source.KERNEL)],
    ],
)
def test_no_calibration_without_figures_of_one_source(usages: list[Usage]) -> None:
    assert calibrate(usages) is None


def test_what_doing_nothing_costs_is_taken_off_and_told() -> None:
    calibration = calibrate([null_test(0.002)])
    usage = corrected(null_test(0.5), calibration)
    assert usage.cpu_seconds == 0.498
    assert usage.overheads == {"cpu_seconds": 0.002}
    assert (usage.cpu_user_seconds, usage.memory_peak_bytes) == (0.0, 400)  # peaks are not subtracted
    assert corrected(null_test(0.001), calibration).cpu_seconds == 0.0  # never below zero


def test_figures_of_another_source_and_missing_ones_stay() -> None:
    calibration = calibrate([null_test(0.002)])
    other = null_test(0.5, source=Source.KERNEL)
    assert corrected(other, calibration) == other
    assert corrected(null_test(None), calibration).cpu_seconds is None
    assert corrected(other, None) is other


def test_a_key_is_of_engine_kernel_image_agent_and_channel() -> None:
    keys = {
        key_of(ENGINE, "sha256:1", agent="a", channel="fifos"),
        key_of(ENGINE, "sha256:2", agent="a", channel="fifos"),
        key_of(ENGINE, "sha256:1", agent="b", channel="fifos"),
        key_of(ENGINE, "sha256:1", agent="a", channel="attach"),
        key_of(replace(ENGINE, version="26.1"), "sha256:1", agent="a", channel="fifos"),
        key_of(replace(ENGINE, kernel="6.12"), "sha256:1", agent="a", channel="fifos"),
        key_of(replace(ENGINE, local=False), "sha256:1", agent="a", channel="fifos"),  # another boot
    }
    assert len(keys) == 7
    assert key_of(ENGINE, "sha256:1", agent="a", channel="fifos") in keys


def test_it_is_remembered_with_what_was_known(tmp_path: Path) -> None:
    one, two = calibrate([null_test(0.002)]), calibrate([null_test(0.004)])
    assert one is not None
    assert two is not None
    store(tmp_path / "new", {"a": one})
    store(tmp_path / "new", {"b": two})
    assert load(tmp_path / "new") == {"a": one, "b": two}
    assert [path.name for path in (tmp_path / "new").iterdir()] == [FILE]


def test_the_oldest_go_first(tmp_path: Path) -> None:
    one = calibrate([null_test(0.002)])
    assert one is not None
    store(tmp_path, {str(number): one for number in range(KEPT + 5)})
    assert list(load(tmp_path)) == [str(number) for number in range(5, KEPT + 5)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"calibrations": 3}',
        '{"calibrations": {"a": {}}}',
        '{"calibrations": {"a": null}}',
        '{"calibrations": {"a": {"source": "agent", "runs": "x"}}}',
    ],
)
def test_a_file_that_is_not_understood_is_measured_again(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert load(tmp_path) == {}
    one = calibrate([null_test(0.002)])
    assert one is not None
    store(tmp_path, {"a": one})
    assert load(tmp_path) == {"a": one}


def test_a_changed_entry_is_not_believed(tmp_path: Path) -> None:
    one = calibrate([null_test(0.002)])
    assert one is not None
    store(tmp_path, {"a": one})
    document = json.loads((tmp_path / FILE).read_text())
    document["calibrations"]["a"]["source"] = "guess"
    (tmp_path / FILE).write_text(json.dumps(document))
    assert load(tmp_path) == {}
