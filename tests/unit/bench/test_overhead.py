from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from bench.makespan import SHAPES
from bench.overhead.command import judged, slots_told, take, words_of
from bench.overhead.comparing import (
    Comparison,
    Contender,
    CpuFigure,
    Row,
    RowError,
    Spread,
    Timing,
    judge,
    judge_cpu,
    turns,
)
from bench.overhead.native import summary_counts
from bench.overhead.process import clean_environment, run
from bench.overhead.rows import makespan
from bench.overhead.rows.shell import bare_configs, docker_run_words
from bench.overhead.table import RowResult, as_json, markdown
from bench.overhead.under_orch import Orch, case_outcomes, check, slot_use
from bench.overhead.work import write_pytest_files, write_shell_tests, xargs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAIR = Comparison(title="pair", ours="a", theirs="b", target=1.05)
MOMENT = {"at": "2026-01-02T03:04:05+00:00", "load": [0.5, 1, 2]}
DOCUMENT: dict[str, Any] = {
    "began": MOMENT,
    "ended": MOMENT,
    "rounds": 3,
    "quick": False,
    "machine": {"memory_bytes": 1 << 30, "cpus": 2.0}
    | dict.fromkeys(("processor", "kernel", "cgroup_version", "user"), "x"),
    "engine": dict.fromkeys(("name", "version", "cgroup_driver", "storage_driver"), "y"),
    "orch": "0.1.0",
}


def timing(contender: str, number: int, wall: float, cpu: float | None = None) -> Timing:
    return Timing(contender=contender, round=number, wall_seconds=wall, cpu_seconds=cpu)


def test_a_ratio_is_that_of_the_medians_and_its_spread_that_of_single_rounds() -> None:
    ours, theirs = (1.0, 3.0, 2.0), (2.0, 2.0, 1.6)
    found = judge(PAIR, [timing(n, i, s) for n, all_ in (("a", ours), ("b", theirs)) for i, s in enumerate(all_)])
    assert found.ratio == Spread(median=1.0, low=0.5, high=1.5, count=3)
    assert found.ours == Spread(median=2.0, low=1.0, high=3.0, count=3)
    assert found.met is True


@pytest.mark.parametrize(("ours", "met"), [(1.05, True), (1.051, False)])
def test_a_target_is_the_highest_good_ratio(ours: float, met: bool) -> None:
    assert judge(PAIR, [timing("a", 0, ours), timing("b", 0, 1.0)]).met is met


def test_only_rounds_that_have_both_are_compared() -> None:
    found = judge(PAIR, [timing("a", 0, 1.0), timing("b", 0, 2.0), timing("a", 1, 9.0)])
    assert found.ours == Spread(median=1.0, low=1.0, high=1.0, count=1)
    with pytest.raises(RowError, match="no round has both a and b"):
        judge(PAIR, [timing("a", 0, 1.0), timing("b", 1, 1.0)])


def test_cpu_time_is_by_test_in_milliseconds() -> None:
    figure = CpuFigure(title="cpu", contender="a", tests=100, target_ms=2.0)
    found = judge_cpu(figure, [timing("a", 0, 9, 0.1), timing("a", 1, 9, 0.3), timing("b", 0, 9, 7.0)])
    assert (found.ours.low, found.ours.median, found.ours.high) == pytest.approx((1.0, 2.0, 3.0))
    assert found.met is True
    with pytest.raises(RowError, match="a has no CPU time"):
        judge_cpu(figure, [timing("a", 0, 9)])


def test_rounds_go_there_and_back_again() -> None:
    def contender(name: str) -> Contender:
        return Contender(name=name, run=lambda: timing(name, 0, 0.1))

    two = (contender("a"), contender("b"))
    assert [c.name for c in turns(two, 0)] + [c.name for c in turns(two, 1)] == ["a", "b", "b", "a"]
    row = Row(name="row", title="", contenders=two, comparisons=(PAIR,))
    taken = take(row, 2)
    assert [(t.contender, t.round) for t in taken] == [("a", 0), ("b", 0), ("b", 1), ("a", 1)]
    assert [line.met for line in judged(row, taken, quick=False)] == [True]
    assert [line.met for line in judged(row, taken, quick=True)] == [None]


def test_the_page_has_figures_targets_and_failures() -> None:
    rows = [timing("a", n, 2.0 + n) for n in range(3)] + [timing("b", n, 2.0) for n in range(3)]
    results = [
        RowResult(name="one", title="First", load_before=[1, 2, 3], judged=[judge(PAIR, rows)], facts=["a fact"]),
        RowResult(name="two", title="", load_before=[1], failure="3 tests were to pass"),
        RowResult(name="three", title="", load_before=[1], skipped="there is none"),
    ]
    page = markdown(DOCUMENT, results)
    line = "| pair | a | b | 3.00 (2.00 to 4.00) | 2.00 (2.00 to 2.00) | 1.50 (1.00 to 2.00) | <= 1.05 | **no** |"
    assert line in page
    assert "- a fact" in page
    assert "**FAILED**, no figures: 3 tests were to pass" in page
    assert "Skipped: there is none" in page
    assert "--quick" not in page
    assert "no target is judged" in markdown({**DOCUMENT, "quick": True}, results)


def test_raw_figures_are_json_a_timing_a_line() -> None:
    result = RowResult(name="one", title="", load_before=[1], timings=[timing("a", 0, 1.5), timing("b", 0, 2.0)])
    text = as_json(DOCUMENT, [result, result])
    document = json.loads(text)
    assert [t["wall_seconds"] for t in document["rows"][1]["timings"]] == [1.5, 2.0]
    assert sum('"wall_seconds"' in line for line in text.splitlines()) == 4
    assert json.loads(as_json(DOCUMENT, []))["rows"] == []


def orch_document(*outcomes: str, **slot: Any) -> dict[str, Any]:
    tests = [
        {"outcome": word, "slot": slot, "attempts": [{}], "cases": [{"outcome": word}, {"outcome": "skipped"}]}
        for word in outcomes
    ]
    return {"tests": tests, "ledger": {"left": [], "created": 7}}


def test_a_run_of_which_not_all_passed_is_no_figure() -> None:
    check(orch_document("passed", "passed"), 2)
    for document in (orch_document("passed", "failed"), orch_document("passed")):
        with pytest.raises(RowError, match="2 tests were to pass"):
            check(document, 2)
    left = {**orch_document("passed"), "ledger": {"left": ["container x"]}}
    with pytest.raises(RowError, match="container x"):
        check(left, 1)


def test_what_became_of_slots_and_cases() -> None:
    assert slot_use(orch_document("passed", position=2, launch="forked")) == {
        "reused": 1,
        "forked": 1,
        "run_again": 0,
    }
    assert slot_use(orch_document("passed", position=1, launch="process"))["reused"] == 0
    assert case_outcomes(orch_document("passed", "failed")) == {"passed": 1, "failed": 1, "skipped": 2}
    notes = {"containers": 4, "reused": 3, "forked": 2, "run_again": 1}
    told = slots_told([Timing(contender="a", round=0, wall_seconds=1, notes=notes), timing("b", 0, 1)])
    assert told == ["a: 4 containers, 3 tests in a slot used before, 2 forked, 1 run again"]


def test_orch_is_told_where_its_state_is_and_its_files_go(tmp_path: Path) -> None:
    write_shell_tests(tmp_path / "project", 1, 1)
    orch = Orch("orch", tmp_path / "project", tmp_path / "state", "--profile", "nosuch", tests=1)
    with pytest.raises(RowError, match="nosuch"):
        orch.measure()


def test_closing_lines_of_pytest() -> None:
    said = b"x\n3 passed in 0.1s\n=== 1 failed, 27 passed, 2 skipped, 1 xfailed, 4 warnings in 3.07s ===\n"
    assert summary_counts(said) == {"failed": 1, "passed": 27, "skipped": 2, "xfailed": 1}
    with pytest.raises(RowError):
        summary_counts(b"no tests ran in 0.01s\n")


def test_a_programs_time_and_end(tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 0.2: pass\nprint('done')"
    ended = run([sys.executable, "-c", burn], folder=tmp_path)
    assert ended.stdout == b"done\n"
    assert 0.2 <= ended.cpu_seconds < ended.wall_seconds + 0.5
    with pytest.raises(RowError, match="exit code 3: oh"):
        run([sys.executable, "-c", "import sys; sys.stderr.write('oh'); sys.exit(3)"], folder=tmp_path)


def test_the_callers_python_settings_are_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "here")
    monkeypatch.setenv("ORCH_JOBS", "7")
    monkeypatch.setenv("OTHER", "kept")
    found = clean_environment()
    assert found["OTHER"] == "kept"
    assert not {"PYTHONPATH", "ORCH_JOBS"} & found.keys()


def test_shell_tests_pass_where_they_are_run_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    listed = write_shell_tests(tmp_path / "project", 3, 5)
    ended = run(xargs(listed, 2, "sh"), folder=tmp_path / "project")
    assert sorted(ended.stdout.splitlines()) == [b"ok 0", b"ok 1", b"ok 2"]
    assert not list(place.iterdir())


def test_pytest_files_pass(tmp_path: Path) -> None:
    write_pytest_files(tmp_path / "project", 2, "collect")
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(words, cwd=tmp_path / "project", capture_output=True, check=False)
    assert summary_counts(done.stdout) == {"passed": 6}


@pytest.mark.parametrize("write", [write_shell_tests, write_pytest_files])
def test_generated_projects_are_ones_that_orch_takes(tmp_path: Path, write: Callable[..., Path]) -> None:
    from orchestrator.config.loader import load_config

    write(tmp_path / "project", 2, 1 if write is write_shell_tests else "collect")
    config = load_config(path=None, start=tmp_path / "project", env={})
    assert config.default_profile in config.profiles
    assert config.profiles[config.default_profile].reuse in (100, 1000)


def test_docker_run_has_the_limits_of_the_bare_call(tmp_path: Path) -> None:
    write_shell_tests(tmp_path / "project", 1, 1)
    document = {"run": {"images": {"isolation": "sha256:1"}}, "tests": [{"path": "tests/n0000.test.sh"}]}
    (config,) = bare_configs(tmp_path / "project", document, "token")
    assert config["Entrypoint"] + config["Cmd"] == ["sh", "tests/n0000.test.sh"]
    assert config["Labels"] == {"io.orch.bench": "token"}
    words = docker_run_words(config, "token", tmp_path / "seccomp.json")
    for word in ("--memory=134217728", "--cpus=1", "--network=none", "--read-only", "--cap-drop=ALL"):
        assert word in words
    assert f"--pids-limit={config['HostConfig']['PidsLimit']}" in words
    assert words[-1] == "sha256:1"


def test_the_makespan_is_held_against_its_lower_bound() -> None:
    good, bad = makespan.judged({"recorded": [(102.0, 100.0)], "skewed": [(104.0, 100.0), (105.0, 100.0)]})
    assert (good.met, bad.met) == (True, False)
    assert bad.ratio is not None
    assert bad.ratio.median == pytest.approx(1.045)


def test_the_makespan_is_measured_for_every_shape() -> None:
    found = makespan.measure(seeds=1)
    assert len(found) == len(SHAPES)
    assert all(one.ratio is not None and 0.999 < one.ratio.median < 1.2 for one in found)


def test_names_of_rows() -> None:
    import argparse

    assert words_of("real,makespan") == ["real", "makespan"]
    with pytest.raises(argparse.ArgumentTypeError, match="no row is called 'reel'"):
        words_of("reel")
