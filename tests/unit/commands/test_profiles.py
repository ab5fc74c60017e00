"""`orch profiles suggest` as typed, on a database without an engine."""

import json

import pytest
from click.testing import CliRunner

from orchestrator.cli import orch
from orchestrator.database.store.store import Database
from orchestrator.errors import UsageError
from tests.unit.database.database_examples import days_ago, make_assignment, make_result, make_run, make_usage

FILE = """\
# ours
version: 1
rules:
  # the units
  - {match: "test/unit/**", profile: standard}   # all of them
  - {match: "test/db/**", profile: slow, group: db, retries: 2}
suites:
  - {name: shell, match: ["test/**/*.sh"], runner: shell}
"""
NAMES = (
    "test/unit/a.sh",
    "test/unit/b.sh",
    "test/db/small.sh",
    "test/db/large.sh",
    "test/db/[new].sh",
    "test/x.sh",
)
MIB = 1 << 20


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ORCH_CONFIG", raising=False)
    (tmp_path / "profiles.yaml").write_text(FILE, encoding="utf-8")
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("true\n", encoding="utf-8")
    with Database.open(None, state_dir=tmp_path / ".orch") as database:
        for number in range(12):
            run = make_run(project=tmp_path.name, started_at=days_ago(number + 1))
            database.begin_run(run, [])
            for name in NAMES:
                if name == "test/db/[new].sh" and number > 3:
                    continue
                peak = 900 * MIB if name == "test/db/large.sh" else 20 * MIB
                usage = make_usage(memory_peak_bytes=peak, cpu_seconds=0.1)
                result = make_result(
                    run, assignment=make_assignment(run, name), usage=usage, started_at=days_ago(number + 1)
                )
                database.record(run.id, result)
    return tmp_path


def suggest(*words):
    return CliRunner().invoke(orch, ["profiles", "suggest", *words])


def test_each_test_gets_its_smallest_profile(project):
    told = json.loads(suggest("--format", "json").stdout)["suggestions"]
    assert {row["test"]: (row["advice"], row["suggested"]) for row in told} == {
        "test/unit/a.sh": ("smaller", "fast"),
        "test/unit/b.sh": ("smaller", "fast"),
        "test/x.sh": ("smaller", "fast"),
        "test/db/small.sh": ("smaller", "fast"),
        "test/db/large.sh": ("none holds", ""),
        "test/db/[new].sh": ("unknown", ""),
    }
    new = next(row for row in told if row["test"] == "test/db/[new].sh")
    assert (new["runs"], new["missing_runs"]) == (4, 6)


def test_people_are_told_the_sum_and_paths_select(project):
    done = suggest("test/unit")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == "2 tests: 2 smaller (saves 768M in total)"
    assert (project / "profiles.yaml").read_text(encoding="utf-8") == FILE


def test_apply_shows_a_diff_and_writes_it(project):
    (project / "profiles.yaml").chmod(0o640)
    done = suggest("--apply", "--min-runs", "4")
    assert done.exit_code == 0, done.output
    after = (project / "profiles.yaml").read_text(encoding="utf-8")
    removed = [line for line in FILE.splitlines() if line not in after.splitlines()]
    added = [line for line in after.splitlines() if line not in FILE.splitlines()]
    assert removed == ['  - {match: "test/unit/**", profile: standard}   # all of them']
    assert added[0].startswith("  # orch profiles suggest --apply, 20")
    assert set(added[1:]) == {
        '  - {match: "test/db/small.sh", profile: fast, retries: 2, group: "db"}',
        '  - {match: "test/db/[[]new].sh", profile: fast, retries: 2, group: "db"}',
        '  - {match: "test/x.sh", profile: fast}',
        '  - {match: "test/unit/**", profile: fast}   # all of them',
    }
    for line in (*added, *removed):
        assert f"{'+' if line in added else '-'}{line}" in done.stdout.splitlines()
    assert (project / "profiles.yaml").stat().st_mode & 0o777 == 0o640
    assert sorted(p.name for p in project.iterdir()) == [".orch", "profiles.yaml", "test"]
    again = suggest("--apply", "--min-runs", "4")
    assert again.stdout.splitlines()[-1] == "profiles.yaml needs no change"


def test_a_rule_of_which_only_some_tests_move_stays(project):
    assert suggest("--apply", "test/unit/a.sh").exit_code == 0
    text = (project / "profiles.yaml").read_text(encoding="utf-8")
    assert '  - {match: "test/unit/a.sh", profile: fast}\n  # the units\n' in text
    assert '  - {match: "test/unit/**", profile: standard}   # all of them' in text


def test_a_file_that_cannot_be_changed_safely_is_left_alone(project):
    flow = FILE.replace("rules:\n  # the units\n  - {", "rules: [{").replace("}   # all of them\n  -", "},")
    flow = flow.replace("retries: 2}", "retries: 2}]")
    (project / "profiles.yaml").write_text(flow, encoding="utf-8")
    done = suggest("--apply", "test/x.sh")
    assert isinstance(done.exception, UsageError)
    assert "not a list of lines" in str(done.exception)
    assert (project / "profiles.yaml").read_text(encoding="utf-8") == flow
