"""`orch check` as typed, on a database without an engine."""

import json

import pytest
from click.testing import CliRunner

from orchestrator.cli import orch
from orchestrator.commands.check import parse_tolerance
from orchestrator.database.store.store import Database
from orchestrator.errors import ExitCode, NothingFoundError, UsageError
from orchestrator.model.evidence import Launch, SlotUse
from orchestrator.model.outcomes import Outcome
from tests.unit.database.database_examples import days_ago, finish, make_result, make_run, make_usage

MIB = 1 << 20
BASE = 100 * MIB


@pytest.fixture
def record(tmp_path, monkeypatch):
    """Stores a run: peaks by test; the newest is `age` days old."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ORCH_CONFIG", raising=False)
    (tmp_path / "profiles.yaml").write_text("version: 1\n", encoding="utf-8")

    def record(age, branch, outcome=Outcome.PASSED, revision=None, launch=Launch.PROCESS, seconds=0.4, **peaks):
        with Database.open(None, state_dir=tmp_path / ".orch") as database:
            run = make_run(branch=branch, revision=revision, started_at=days_ago(age))
            database.begin_run(run, [])
            for name, peak in peaks.items():
                usage = make_usage(memory_peak_bytes=int(peak))
                slot = SlotUse(launch=launch)
                result = make_result(
                    run,
                    f"{name}.py",
                    outcome,
                    usage=usage,
                    slot=slot,
                    started_at=days_ago(age),
                    test_seconds=seconds,
                )
                database.record(run.id, result)
            finish(database, run)
        return run.id

    return record


@pytest.fixture
def main(record):
    """Thirty runs of main; returns the newest one's id."""
    return [record(40 - n, "main", same=BASE + n % 5 * MIB, grown=BASE + n % 3 * MIB) for n in range(30)][-1]


def check(*words):
    return CliRunner().invoke(orch, ["check", *words])


def test_a_branch_that_made_a_test_hungrier_breaks_the_gate(record, main):
    for n in range(4):
        record(5 - n, "feature", same=BASE + n * MIB, grown=BASE * 1.16 + n * MIB)
    done = check("--baseline", "main")
    assert done.exit_code == ExitCode.VIOLATIONS
    lines = done.stdout.splitlines()
    assert lines[1].split()[:3] == ["grown", "grown.py", "memory"]
    assert not any("same.py" in line for line in lines)
    assert (
        lines[-1]
        == "4 comparisons of 4 runs with main (30 runs): 1 grown, 0 suspected, 3 unchanged, 0 with too few runs"
    )
    assert check("--baseline", "main", "--memory", "+20%").exit_code == ExitCode.OK
    assert check("--baseline", "main", "--memory", "off").exit_code == ExitCode.OK


def test_one_run_is_a_suspicion(record, main):
    record(1, "feature", grown=BASE * 1.5)
    done = check("--baseline", "main", "--format", "github")
    assert done.exit_code == ExitCode.OK
    (line,) = done.stdout.splitlines()
    assert line.startswith(
        "::warning file=grown.py,title=orch check%3A memory +49 %25::grown.py: memory grew by +49 %25"
    )
    assert "1 suspected" in done.stderr


def test_json_has_every_comparison(record, main):
    for n in range(3):
        record(5 - n, "feature", same=BASE, grown=BASE * 1.3, new=BASE)
    done = check("--baseline", "main", "--format", "json", "--cpu", "10%")
    told = {(row["test"], row["resource"]): row for row in json.loads(done.stdout)["gates"]}
    assert len(told) == 9
    assert told["grown.py", "memory"]["judgement"] == "grown"
    assert told["grown.py", "memory"]["chance"] < 0.001
    assert told["same.py", "memory"]["judgement"] == "unchanged"
    assert (told["new.py", "memory"]["judgement"], told["new.py", "memory"]["before"]) == ("too few runs", None)


def test_a_run_as_baseline_is_that_run_and_those_before(record, main):
    for n in range(3):
        record(5 - n, "main", same=BASE, grown=BASE * 1.3)
    assert check("--baseline", main).exit_code == ExitCode.VIOLATIONS
    assert isinstance(check(main, "--baseline", main).exception, UsageError)


def test_the_branch_itself_as_baseline_leaves_the_new_runs_out(record, main):
    assert check("--baseline", "main").exit_code == ExitCode.OK
    for n in range(5):
        record(6 - n, "main", grown=BASE * 1.3)
    done = check("--baseline", "main")
    assert (done.exit_code, "with main (30 runs)" in done.stdout) == (ExitCode.VIOLATIONS, True)


def test_a_file_as_baseline(record, main, tmp_path):
    saved = check("--save", "base.json")
    assert saved.stdout == "base.json: 2 tests of 30 runs\n"
    for n in range(3):
        record(5 - n, "feature", same=BASE, grown=BASE * 1.3)
    assert check("--baseline", "base.json").exit_code == ExitCode.VIOLATIONS
    (tmp_path / "other.json").write_text('{"kind": "x", "schema": 1}', encoding="utf-8")
    assert "is not a baseline" in str(check("--baseline", "other.json").exception)


def test_only_memory_of_one_kind_is_compared(record, main, tmp_path):
    """What was forked has no interpreter in its figure: a test that is not any more has not grown by one."""
    for n in range(20):
        record(5 - n / 9, "forked", launch=Launch.FORKED, same=BASE, grown=BASE)
    for n in range(3):
        record(1 - n / 9, "process", same=BASE * 1.3, grown=BASE * 1.3)
    done = check("--baseline", "forked", "--format", "json", "--time", "off", "--cpu", "off")
    assert {row["judgement"] for row in json.loads(done.stdout)["gates"]} == {"too few runs"}
    assert check("--baseline", "main").exit_code == ExitCode.VIOLATIONS


def test_time_of_a_fork_is_not_compared_with_that_of_a_program(record, main):
    """A test that a fresh container starts as a program of its own has not become slower."""
    for n in range(20):
        record(5 - n / 9, "forked", launch=Launch.FORKED, seconds=0.1, same=BASE)
    for n in range(3):
        record(1 - n / 9, "process", seconds=0.9, same=BASE)
    words = ("--memory", "off", "--cpu", "off", "--time", "+20%")
    done = check("--baseline", "forked", "--format", "json", *words)
    assert [row["judgement"] for row in json.loads(done.stdout)["gates"]] == ["too few runs"]
    assert check("--baseline", "main", *words).exit_code == ExitCode.VIOLATIONS


def test_a_file_of_an_older_orch_knows_no_own_memory(record, main, tmp_path):
    check("--save", "base.json")
    old = json.loads((tmp_path / "base.json").read_text(encoding="utf-8")) | {"schema": 1}
    (tmp_path / "old.json").write_text(json.dumps(old), encoding="utf-8")
    for n in range(3):
        record(5 - n, "feature", same=BASE, grown=BASE * 1.3)
    done = check("--baseline", "old.json")
    assert done.exit_code == ExitCode.OK
    assert "memory is not compared" in done.stderr


def test_failed_runs_do_not_count(record, main):
    for n in range(4):
        record(5 - n, "feature", Outcome.FAILED, grown=BASE * 3)
    done = check("--baseline", "main")
    assert (done.exit_code, done.stdout.splitlines()[-1].startswith("0 comparisons")) == (0, True)


def test_runs_of_the_same_revision_are_enough(record, main):
    for n in range(2):
        record(9 - n, "feature", revision="one", grown=BASE)
    for n in range(3):
        record(5 - n, "feature", revision="two", grown=BASE * 1.3)
    done = check("--baseline", "main")
    assert (done.exit_code, "of 3 runs" in done.stdout) == (ExitCode.VIOLATIONS, True)


def test_what_does_not_exist_and_what_is_no_tolerance(main):
    assert isinstance(check("--baseline", "nowhere").exception, NothingFoundError)
    assert isinstance(check().exception, UsageError)
    assert [parse_tolerance(text) for text in ("+10%", "7.5 %", "off")] == [0.1, 0.075, None]
    for text in ("10", "-5%", "+1e3%", "nan%"):
        with pytest.raises(UsageError, match="tolerance"):
            parse_tolerance(text)
