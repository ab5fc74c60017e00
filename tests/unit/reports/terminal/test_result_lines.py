from __future__ import annotations

import time

import pytest

from orchestrator.model.evidence import AgentRecord, Launch, LeftoverProcess, SlotUse
from orchestrator.model.usage import Sample
from orchestrator.reports.terminal.output_tail import output_lines, tail_lines
from orchestrator.reports.terminal.result_lines import (
    RunningTest,
    header_line,
    key_of,
    line,
    remark_of,
    remarks,
    running_lines,
    wrapped_lines,
)
from orchestrator.text import cells


def test_the_header_names_engine_counters_and_host(build):
    assert header_line(build.run, 14) == (
        "Run b0b38ba7   14 tests   docker 20.10  cgroup v1: kernel counters   2 cpus 22 GiB"
    )


@pytest.mark.parametrize("tests", [1, 14, 4067])
def test_the_header_fits_eighty_columns(build, tests):
    assert header_line(build.run, tests, columns=83) == header_line(build.run, tests) or tests == 4067
    header = header_line(build.run, tests, columns=80)
    assert cells(header) <= 80
    assert "cgroup v1: kernel" in header
    assert header.endswith("  2 cpus 22 GiB")


def test_the_header_says_which_limits_the_engine_ignores(build):
    engine = build.replace(build.run.engine, rootless=True, memory_limit=False, pids_limit=False)
    header = header_line(build.replace(build.run, engine=engine), 1)
    assert "1 test " in header
    assert "rootless  cgroup v1: agent counters" in header
    assert header.endswith("not enforced: memory, pids")


@pytest.mark.parametrize(
    ("load", "end"), [(3.9, "22 GiB"), (8.2, "22 GiB   host busy: load 8 on 2 CPUs"), (None, "GiB")]
)
def test_the_header_says_that_the_host_is_busy(build, load, end):
    host = build.replace(build.run.host, load=load)
    assert header_line(build.replace(build.run, host=host), 14).endswith(end)


def test_what_does_not_fit_beside_the_header_stands_below_it(build):
    host = build.replace(build.run.host, load=26.0)
    lines = header_line(build.replace(build.run, host=host), 14, columns=80).splitlines()
    assert lines == [header_line(build.run, 14, columns=60), "    host busy: load 26 on 2 CPUs"]


def starved(build, *args, waited, was_starved=False, **changes):
    attempt = build.attempt(*args, **changes)
    evidence = build.replace(attempt.evidence, cpu_waited_seconds=waited, starved=was_starved)
    return build.replace(attempt, evidence=evidence)


def test_a_line_says_that_the_host_was_busy_where_the_test_overran_by_the_clock(build):
    slow = build.of(starved(build, waited=8.5, seconds=12.0))
    assert remark_of(slow) == "host busy: 0.3 s of CPU in 12 s"
    assert remark_of(build.of(starved(build, waited=1.5, seconds=2.0))) == ""
    assert remark_of(build.of(starved(build, waited=0.2, seconds=12.0))) == ""


def test_a_first_try_that_was_starved_is_shown(build):
    first = starved(build, outcome="timeout", message="still running", waited=95, seconds=100.0, was_starved=True)
    passed = build.of(first, build.attempt(attempt=2))
    assert remark_of(passed) == "passed when it ran alone, before that: still running"
    failed = build.of(
        first, build.attempt(outcome="timeout", message="still running, too", attempt=2), verb="TIMEOUT"
    )
    assert "confirmed by a run alone after a timeout on a busy host" in remarks(failed)


def test_a_line_has_the_columns_of_the_design(build):
    assert line(build.result()) == ("      PASS [  0.412s]  61M/512M  cpu 0.3s  standard  test/test_parse.py")
    oom = build.result(
        "test/test_index.py",
        "oom",
        seconds=1.902,
        usage=build.usage(512 << 20, 1.7),
        violations=(build.violation(),),
    )
    assert line(oom) == (
        "       OOM [  1.902s] 512M/512M  cpu 1.7s  standard  test/test_index.py"
        "    a child was killed, the test exited 0"
    )


def test_what_was_not_measured_is_a_question_mark_never_zero(build):
    shown = line(build.result(usage=build.usage(None, None)))
    assert "    ?/512M  cpu ?     standard" in shown


def test_an_upper_bound_is_marked(build):
    assert " ≤61M/512M" in line(build.result(usage=build.usage(memory_peak_is_upper_bound=True)))


def test_the_remark_for_a_leftover_has_its_command_line(build):
    agent = AgentRecord(exit_code=0, leftovers=(LeftoverProcess(pid=7, command_line="sleep 1000"),))
    leak = build.violation("process-leak", "1 process was left running", "warning")
    leaking = build.result(verb="LEAK", agent=agent, violations=(leak,))
    assert remarks(leaking) == ("1 process was left running", "left running: sleep 1000")
    assert line(leaking).endswith("    1 process was left running (+1 more)")
    told = build.violation("process-leak", "left running: sleep 1000", "warning")
    assert remarks(build.result(agent=agent, violations=(told,))) == ("left running: sleep 1000",)


def test_graver_violations_are_remarked_first(build):
    near = build.violation("memory-near", "near", "notice")
    over = build.violation("memory-over", "over", "error")
    assert remarks(build.result(violations=(near, over))) == ("over", "near")


def test_a_flaky_pass_says_how_often_it_failed(build):
    flaky = build.of(build.attempt(outcome="failed", message="exit code 1"), build.attempt(attempt=2), flaky=True)
    assert line(flaky).endswith("    failed 1 of 2 attempts: exit code 1")


def test_undersized_advises_the_profile_that_was_enough(build):
    small, large = build.profile("fast", "128M"), build.profile("standard")
    first = build.attempt(outcome="oom", profile=small)
    undersized = build.of(first, build.attempt(attempt=2, profile=large), verb="UNDERSIZED")
    assert remarks(undersized) == ("needs standard: oom under fast, passed with 61M in 0.412s",)
    second = build.attempt(outcome="oom", attempt=2, profile=large, message="killed")
    assert remarks(build.of(first, second, verb="RUNAWAY"))[0].startswith("oom under fast, oom under standard too")


def test_a_truncated_log_and_a_missing_witness_are_remarked(build):
    one = build.result(stdout=build.log(b"x", total=20 << 20, kept=1 << 20), witnesses=1)
    assert remarks(one) == (
        "stdout truncated: 1M of 20M kept",
        "only one witness: the image has no shell for the agent",
    )


@pytest.mark.parametrize("columns", [80, 100, 200])
def test_a_terminal_line_fits_and_keeps_the_test_recognisable(build, columns):
    name = "test/" + "very/" * 20 + "test_index.py"
    lines = wrapped_lines(build.result(name, "oom", message="killed " * 40), columns=columns)
    assert all(cells(text) <= columns for text in lines)
    assert lines[0].endswith("test_index.py")
    assert lines[1].startswith("           killed killed")


def test_a_short_remark_stays_on_the_terminal_line(build):
    assert len(wrapped_lines(build.result("test/a.py", "failed", message="exit 1"), columns=100)) == 1


def test_hostile_names_and_messages_cannot_steer_the_terminal(build):
    shown = line(build.result("test/\x1b]0;x\x07\n      PASS.py", "failed", message="\x1b[2J\nSummary"))
    assert "\x1b" not in shown
    assert "\n" not in shown
    assert r"test/\x1b]0;x\x07\n      PASS.py    \x1b[2J\nSummary" in shown


def test_repetitions_are_told_apart(build):
    assert key_of(build.assignment(repetition=2)) == "test/test_parse.py#2"
    assert line(build.result(repetition=2)).endswith("  test/test_parse.py#2")


def test_a_line_is_ten_thousand_times_quick(build):
    results = [build.result(f"test/test_{n}.py", "failed", message="exit code 1") for n in range(10_000)]
    started = time.process_time()
    lines = [line(result) for result in results]
    assert time.process_time() - started < 1.0
    assert len(set(lines)) == 10_000


# ---------------------------------------------------------------- output


def test_a_tail_is_the_last_forty_lines_made_visible(build):
    data = b"".join(b"line %d \x1b[31m\n" % number for number in range(100))
    lines = output_lines(build.attempt(stdout=data, stderr=b"oh\xff\r\n"))
    assert lines[0] == "  stdout (the last 40 lines of 1.4K):"
    assert lines[1] == "    | line 60 \\x1b[31m"
    assert lines[40:] == ["    | line 99 \\x1b[31m", "  stderr:", "    | oh\ufffd"]


def test_a_line_without_end_is_bounded(build):
    (only,), earlier = tail_lines(build.log(b"x" * 1_000_000))
    assert len(only) < 600
    assert earlier


def test_a_silent_test_says_so(build):
    assert output_lines(build.attempt()) == ["  no output"]


def test_truncated_output_says_how_much_was_kept(build):
    log = build.log(b"end\n", total=5 << 20, kept=1 << 20)
    assert output_lines(build.attempt(stdout=log))[0] == "  stdout (the last 1 line of 5M, truncated: 1M kept):"


# ---------------------------------------------------------------- running tests


def test_running_tests_show_present_use_longest_first(build):
    running = [
        RunningTest(assignment=build.assignment("test/b.py"), started_seconds=9.0),
        RunningTest(assignment=build.assignment("test/a.py"), started_seconds=6.8),
    ]
    samples = {"test/a.py": Sample(at_seconds=3.0, memory_bytes=61 << 20, cpu_seconds=1.2)}
    assert running_lines(running, samples, now_seconds=10.0) == [
        "   running [  3.200s]  61M/512M  cpu 1.2s  standard  test/a.py",
        "   running [  1.000s]    ?/512M  cpu ?     standard  test/b.py",
    ]
    assert running_lines(running, samples, now_seconds=10.0, limit=1)[1].strip() == "and 1 more running"


def test_a_failure_that_a_fresh_container_did_not_confirm_is_told(build):
    slot = SlotUse(position=17)
    result = build.of(build.attempt(outcome="failed", message="exit code 1", slot=slot), build.attempt(attempt=2))
    assert line(result).endswith("    passed in a fresh container, failed as test 17 of a reused one: exit code 1")


def test_a_confirmed_failure_says_so_after_its_own_message(build):
    slot = SlotUse(position=1, launch=Launch.FORKED)
    first = build.attempt(outcome="failed", message="exit code 1", slot=slot)
    result = build.of(first, build.attempt(outcome="failed", message="exit code 2", attempt=2))
    assert remarks(result) == (
        "exit code 2",
        "confirmed in a fresh container after it had failed forked from a preloaded process",
    )
    assert remarks(build.of(first))[-1].endswith("not confirmed in a fresh one: the run was stopped")


def test_a_test_in_a_used_slot_says_so(build):
    shared = build.usage(memory_floor_bytes=33 << 20)
    assert line(build.result(slot=SlotUse(position=17))).endswith("test/test_parse.py    reused")
    assert line(build.result(slot=SlotUse(position=2), usage=shared)).endswith("    reused, +33M shared")
    assert line(build.result(slot=SlotUse(position=1), usage=shared)).endswith("    +33M shared")
