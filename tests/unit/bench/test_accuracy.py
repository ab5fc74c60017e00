from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from bench.accuracy.command import as_json, build, compact, find_runexec, unexpected
from bench.accuracy.judge import rows
from bench.accuracy.programs import MIB, PROGRAMS, Measurement, own_cpu_seconds
from bench.accuracy.table import markdown
from bench.accuracy.under_runexec import Runexec

if TYPE_CHECKING:
    from pathlib import Path

    from bench.accuracy.judge import Row

BY_NAME = {program.name: program for program in PROGRAMS}
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="known.c is compiled by gcc")


def taken(program: str, tool: str = "orch", own: float | None = None, **figures: float | None) -> Measurement:
    return Measurement(
        tool=tool,
        program=program,
        round=0,
        outcome=BY_NAME[program].outcome,
        figures=figures,
        sources=dict.fromkeys(figures, "kernel"),
        own_cpu_seconds=own,
    )


def row(program: str, figure: str, *measurements: Measurement) -> Row:
    found = [r for r in rows(measurements, PROGRAMS) if (r.program, r.figure) == (program, figure)]
    assert len(found) == 1
    return found[0]


def test_cpu_time_is_held_against_what_each_run_says_of_itself() -> None:
    runs = [taken("burn-500-1", own=0.5, cpu_seconds=0.509), taken("burn-500-1", own=0.6, cpu_seconds=0.587)]
    found = row("burn-500-1", "cpu_seconds", *runs)
    assert found.truth == pytest.approx(0.55)
    assert (found.within, found.runs) == (1, 2)  # 9 ms of 500 are in 2 %, 13 of 600 are not
    assert found.error_worst == pytest.approx(-0.013)
    assert found.worst == 0.587


def test_of_little_cpu_time_5_ms_may_be_wrong() -> None:
    assert row("live-5", "cpu_seconds", taken("live-5", own=0.0, cpu_seconds=0.0049)).within == 1
    assert row("live-5", "cpu_seconds", taken("live-5", own=0.0, cpu_seconds=0.0051)).within == 0


def test_memory_counts_above_the_floor_of_the_same_tool() -> None:
    null = taken("null", memory_bytes=3 * MIB)
    other = taken("null", tool="runexec", memory_bytes=9 * MIB)
    near, far = 12.1 * MIB, 14.1 * MIB
    assert row("alloc-10", "memory_bytes", null, other, taken("alloc-10", memory_bytes=near)).within == 1
    found = row("alloc-10", "memory_bytes", null, other, taken("alloc-10", memory_bytes=far))
    assert (found.within, found.floor) == (0, 3 * MIB)
    assert found.above_floor_worst == pytest.approx(1.1 * MIB)
    assert found.error_worst == pytest.approx(4.1 * MIB)


def test_a_limit_holds_for_the_floor_and_the_program_together() -> None:
    null, greedy = taken("null", memory_bytes=3 * MIB), taken("greedy-200", memory_bytes=64 * MIB)
    assert row("greedy-200", "memory_bytes", null, greedy).within == 1


def test_a_missing_figure_is_counted_and_no_error() -> None:
    runs = [taken("alloc-10", memory_bytes=None), taken("alloc-10", memory_bytes=10 * MIB)]
    found = row("alloc-10", "memory_bytes", *runs)
    assert (found.missing, found.runs, found.within, found.error_worst) == (1, 2, 1, 0)
    nothing = row("null", "pids", taken("null", pids=None))
    assert (nothing.missing, nothing.median, nothing.worst, nothing.error_median) == (1, None, None, None)


def test_output_must_be_exact() -> None:
    assert row("output-64", "output_bytes", taken("output-64", output_bytes=64 * MIB)).within == 1
    assert row("output-64", "output_bytes", taken("output-64", output_bytes=64 * MIB - 1)).within == 0


def test_outcomes_other_than_the_programs_own_are_listed() -> None:
    wrong = Measurement(tool="orch", program="greedy-200", round=0, outcome="passed", figures={})
    assert unexpected([wrong, wrong, taken("null")], PROGRAMS) == [("orch", "greedy-200", "passed", 2)]


def test_the_page_says_what_each_tool_has() -> None:
    runs = [
        taken("null", own=0.0, cpu_seconds=0.003, memory_bytes=MIB, pids=2),
        taken("null", tool="runexec", own=0.0, cpu_seconds=0.002, memory_bytes=MIB, pids=None),
        taken("burn-50-1", own=0.05, cpu_seconds=0.052, memory_bytes=MIB, pids=2),
    ]
    moment = {"at": "2026-01-02T03:04:05+00:00", "load": [0.5, 1, 2]}
    machine = {"memory_bytes": 1 << 30, "cpus": 2.0}
    names = ("processor", "kernel", "cgroup_version", "huge_pages", "user")
    document = {
        "began": moment,
        "ended": moment,
        "rounds": 1,
        "machine": machine | dict.fromkeys(names, "x"),
        "engine": dict.fromkeys(("name", "version", "cgroup_driver", "storage_driver"), "y"),
        "runexec": "z",
        "sampler": ["cheap"],
        "unexpected": [("orch", "null", "infra", 1)],
        "disagreements": 0,
    }
    page = markdown(document, rows(runs, PROGRAMS))
    assert "| burn-50-1 | orch | 50.0 ms | 52.0 ms | 52.0 ms | +2.0 ms (+4.0%) |" in page
    assert "- runexec: Peak pids missing in 1 runs" in page
    assert "- runexec gives no such figure." in page
    assert "orch null: infra (1)" in page
    assert "load average 0.5 1 2 at the start" in page


def test_results_are_json_a_measurement_a_line() -> None:
    import json

    measurement = taken("null", own=0.25, cpu_seconds=1 / 3, pids=None)
    text = as_json({"rounds": 1, "measurements": [compact(measurement), compact(measurement)]})
    document = json.loads(text)
    assert document["rounds"] == 1
    assert document["measurements"][1]["figures"] == {"cpu_seconds": 0.3333333333}
    assert text.count('"program"') == sum('"program"' in line for line in text.splitlines()) == 2


def test_a_runexec_that_is_not_there_is_said_in_words(tmp_path: Path) -> None:
    runexec, about = find_runexec(str(tmp_path / "runexec"), tmp_path / "known", tmp_path)
    assert runexec is None
    assert "cannot measure here" in about
    assert "No such file" in about


def test_figures_are_read_as_runexec_writes_them(tmp_path: Path) -> None:
    command = tmp_path / "runexec"
    command.write_text(
        "#!/bin/sh\n"
        'while [ "$1" != --output ]; do shift; done\n'
        'echo "known cpu_seconds=0.031" >"$2"\n'
        "echo terminationreason=memory\necho walltime=0.5s\necho cputime=0.25s\necho memory=1048576B\n"
    )
    command.chmod(0o755)
    found = Runexec(str(command), tmp_path / "known", tmp_path).measure(BY_NAME["greedy-200"], 7)
    assert (found.outcome, found.round, found.own_cpu_seconds) == ("oom", 7, 0.031)
    assert found.figures == {"cpu_seconds": 0.25, "memory_bytes": MIB, "wall_seconds": 0.5}


def test_own_account_is_the_last_one() -> None:
    assert own_cpu_seconds(b"xx\nknown cpu_seconds=0.1\nknown cpu_seconds=0.25\n") == 0.25
    assert own_cpu_seconds(b"Killed") is None


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("known"))


@needs_gcc
@pytest.mark.parametrize("name", [p.name for p in PROGRAMS if p.outcome == "passed" and p.name < "burn-5"])
def test_programs_do_their_work_and_say_so(known: Path, name: str) -> None:
    done = subprocess.run([known, name], capture_output=True, check=True)
    assert own_cpu_seconds(done.stderr) is not None


@needs_gcc
def test_programs_do_just_what_is_known(known: Path, tmp_path: Path) -> None:
    burnt = own_cpu_seconds(subprocess.run([known, "burn-50-2"], capture_output=True, check=True).stderr)
    assert burnt == pytest.approx(0.05, abs=0.002)
    wrote = subprocess.run([known, "output-1"], capture_output=True, check=True)
    assert len(wrote.stdout) == MIB
    subprocess.run([known, "tmpfs-1", str(tmp_path)], check=True, capture_output=True)
    assert not list(tmp_path.iterdir())
    assert subprocess.run([known, "nonsense"], capture_output=True, check=False).returncode == 2
