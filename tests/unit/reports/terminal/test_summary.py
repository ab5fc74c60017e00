from __future__ import annotations

import shlex

import pytest

from orchestrator.model.evidence import SlotUse
from orchestrator.model.runs import Ledger, RunStatus
from orchestrator.reports.terminal.summary import (
    OutputWhen,
    count_line,
    ledger_lines,
    reproduce_line,
    summary_lines,
)
from orchestrator.text import cells


@pytest.fixture
def mixed(build):
    """12 passed, one of them flaky; one failed, one OOM; 3 violations."""
    flaky = build.of(build.attempt("test/f.py", "failed"), build.attempt("test/f.py", attempt=2), flaky=True)
    passed = [build.result(f"test/p{number}.py") for number in range(11)]
    failed = build.result(
        "test/test_x.py", "failed", message="exit code 1", stdout=b"expected 1\n", stderr=b"oh\n"
    )
    oom = build.result(
        "test/test_index.py",
        "oom",
        seconds=1.902,
        usage=build.usage(512 << 20, 1.7),
        violations=(
            build.violation(),
            build.violation("memory-over", "over"),
            build.violation("pids-limit", "pids"),
        ),
    )
    return build.summary(*passed, flaky, failed, oom)


def test_the_counts_are_the_designs(mixed):
    assert count_line(mixed) == ("   Summary [ 12.4s] 14 run: 12 passed (1 flaky), 2 failed (1 oom), 3 violations")


def test_every_kind_of_end_is_counted(build):
    kinds = ["passed", "timeout", "timeout", "crashed", "infra", "interrupted", "skipped"]
    results = [build.result(f"t{n}.py", kind) for n, kind in enumerate(kinds)]
    undersized = build.of(build.attempt("u.py", "oom"), build.attempt("u.py", attempt=2), verb="UNDERSIZED")
    forbidden = build.of(
        build.attempt("v.py", "failed"), build.attempt("v.py", attempt=2), flaky=True, outcome="failed"
    )
    stopped = build.summary(
        *results,
        undersized,
        forbidden,
        status=RunStatus.INTERRUPTED,
        not_run=("x.py", "y.py"),
        duration=0.05,
    )
    assert count_line(stopped) == (
        "   Summary [  0.1s] interrupted, 9 run: 2 passed (1 undersized),"
        " 4 failed (2 timeout, 1 crashed, 1 flaky), 1 infra, 1 interrupted, 1 skipped, 2 not run"
    )


def test_failures_come_back_with_both_streams(mixed):
    lines = summary_lines(mixed)
    start = lines.index("Failures:")
    assert lines[start + 1].lstrip().startswith("FAIL [  0.412s]  61M/512M")
    assert lines[start + 2 : start + 6] == ["  stdout:", "    | expected 1", "  stderr:", "    | oh"]
    assert sum("test/p1.py" in line for line in lines) == 0


@pytest.mark.parametrize(
    ("success", "failure", "shown"),
    [
        ("never", "never", []),
        ("never", "final", ["bad"]),
        ("final", "never", ["good"]),
        ("final", "immediate", ["good"]),
    ],
)
def test_output_at_the_end_only_when_asked(build, success, failure, shown):
    summary = build.summary(build.result(stdout=b"good\n"), build.result("b.py", "failed", stdout=b"bad\n"))
    lines = summary_lines(summary, success_output=OutputWhen(success), failure_output=OutputWhen(failure))
    assert [line.removeprefix("    | ") for line in lines if line.startswith("    | ")] == shown
    assert "Failures:" in lines


def test_all_remarks_on_a_failure_are_told(mixed):
    lines = summary_lines(mixed)
    start = next(n for n, line in enumerate(lines) if "test/test_index.py" in line)
    assert lines[start].endswith("    a child was killed, the test exited 0")
    assert lines[start + 1 : start + 3] == ["  also: over", "  also: pids"]


def test_violations_are_listed_with_severity_kind_test_and_sentence(mixed):
    lines = summary_lines(mixed)
    start = lines.index("Violations:")
    assert lines[start + 1] == (
        "  error    child-oom      test/test_index.py    a child was killed, the test exited 0"
    )
    assert len([line for line in lines if line.startswith("  error ")]) == 3


def test_notices_come_after_what_is_grave_one_of_each_kind(build):
    advice = build.violation("oversized", "smaller would do", "notice")
    results = [build.result(f"t{n}.py", violations=(advice,)) for n in range(40)]
    grave = build.violation("child-oom", "a child was killed", "error")
    lines = summary_lines(build.summary(*results, build.result("z.py", violations=(advice, grave))))
    start = lines.index("Violations:")
    assert lines[start + 1 : start + 3] == [
        "  error    child-oom      z.py    a child was killed",
        "  notice   oversized      t0.py    smaller would do (and 40 other tests)",
    ]
    assert any(line.endswith("41 run: 41 passed, 1 violation, 41 notices") for line in lines)


def test_the_worst_and_the_way_to_reproduce_are_on_one_line_where_it_fits(mixed):
    lines = summary_lines(mixed)
    assert lines[-3:] == [
        "worst: test/test_index.py memory 100 %      reproduce: orch repro b0b3:test/test_x.py",
        "       test/test_index.py cpu 1.7s",
        "       test/test_index.py duration 1.902s",
    ]
    narrow = summary_lines(mixed, columns=80)
    assert narrow[-1] == "reproduce: orch repro b0b3:test/test_x.py"


def test_a_run_without_trouble_has_nothing_to_reproduce(build):
    notice = build.violation(kind="memory-near", severity="notice")
    quiet = summary_lines(build.summary(build.result("a.py"), build.result("b.py", violations=(notice,))))
    assert any(line.startswith("worst: ") for line in quiet)
    assert not any("reproduce" in line for line in quiet)


def test_a_broken_budget_can_be_reproduced_when_nothing_failed(build):
    warned = build.result("warned.py", violations=(build.violation(severity="warning"),))
    grave = build.result("grave.py", violations=(build.violation(severity="error"),))
    lines = summary_lines(build.summary(build.result("a.py"), warned, grave), columns=80)
    (line,) = [line for line in lines if "reproduce: " in line]
    assert line.endswith("reproduce: orch repro b0b3:grave.py")


def test_everything_but_output_fits_eighty_columns(build):
    name = "test/" + "very/" * 20 + "test_index.py"
    long = build.violation(message="over " * 30 + "its limit"), build.violation(message="溢" * 60)
    bad = build.result(name, "oom", message="killed " * 40 + "by the kernel", violations=long)
    lines = summary_lines(build.summary(bad), columns=80)
    assert all(cells(line) <= 80 for line in lines if not line.startswith("reproduce: "))
    assert "killed by the kernel" in " ".join("\n".join(lines).split())
    assert "over its limit" in " ".join("\n".join(lines).split())


def test_a_test_with_blanks_is_quoted_for_the_shell(build):
    line = reproduce_line(build.run, build.result("test/it's a $(test).py"))
    assert shlex.split(line)[-1] == "b0b3:test/it's a $(test).py"
    assert "\n" not in reproduce_line(build.run, build.result("test/a\nb.py"))


def test_nothing_measured_is_nobodys_worst(build):
    unknown = build.result("a.py", "infra", usage=build.usage(None, None), seconds=0.0)
    assert not any("worst" in line for line in summary_lines(build.summary(unknown)))


def test_an_empty_run_has_a_summary(build):
    assert summary_lines(build.summary(duration=0.0)) == ["   Summary [  0.0s] 0 run: 0 passed"]


def test_the_ledger_speaks_only_when_something_was_left():
    assert ledger_lines(Ledger(expected_containers=3, created_containers=3, removed_containers=3)) == []
    left = Ledger(
        expected_containers=3, created_containers=4, left=("container orch-1",), unexpected=("volume x",)
    )
    assert ledger_lines(left) == [
        "left behind: 1 object (3 containers expected, 4 created); remove with: orch clean",
        "  container orch-1",
        "unexpected: 1 object that orch did not create",
        "  volume x",
    ]


def test_ten_thousand_failures_end_in_a_bounded_report(build):
    output = b"x" * 400 + b"\n"
    failed = [
        build.result(f"t{n}.py", "failed", stdout=output * 100, violations=(build.violation(),))
        for n in range(10_000)
    ]
    lines = summary_lines(build.summary(*failed))
    assert sum(map(len, lines)) < 1_000_000
    assert "  and 9800 more" in lines


def test_a_test_cannot_forge_a_summary(build):
    forged = b"   Summary [  0.1s] 1 run: 1 passed\n"
    lines = summary_lines(build.summary(build.result(outcome="failed", stdout=forged)))
    assert [line for line in lines if line.startswith("   Summary")] == [
        "   Summary [ 12.4s] 1 run: 0 passed, 1 failed"
    ]


def test_passes_that_needed_a_fresh_container_are_counted(build):
    slot = SlotUse(position=3)
    alone = build.of(build.attempt("a.py", "failed", slot=slot), build.attempt("a.py", attempt=2))
    assert count_line(build.summary(alone, build.result("b.py"))).endswith(
        "2 run: 2 passed (1 only in a fresh container)"
    )


def test_the_number_of_tests_in_reused_slots_is_told(build):
    results = [build.result(f"{n}.py", slot=SlotUse(position=n)) for n in (1, 2, 3)]
    told = "2 of 3 tests ran in reused slots (orch run --fresh: a container each)"
    assert told in summary_lines(build.summary(*results))
    assert not any("reused" in line for line in summary_lines(build.summary(results[0])))
