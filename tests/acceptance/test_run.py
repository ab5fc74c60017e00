"""`orch run` on small projects: exit codes, formats, a test's environment, selection and repetition."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest

from orchestrator.reports.formats.run_json import run_schema
from tests.acceptance.conftest import Orch, objects_of, run_folders

if TYPE_CHECKING:
    from collections.abc import Callable

PASSES = "#!/bin/sh\nexit 0\n"
FAILS = "#!/bin/sh\necho went wrong >&2\nexit 3\n"
LEAVES_A_PROCESS = "#!/bin/sh\nsleep 600 >/dev/null 2>&1 </dev/null &\n"


def outcomes(document: dict[str, Any]) -> dict[str, str]:
    return {test["id"]: test["outcome"] for test in document["tests"]}


def run_json(orch: Orch, *words: str, expect: int = 0) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(orch("run", "--format", "json", *words, expect=expect).stdout)
    jsonschema.validate(document, run_schema())
    return document


def test_all_passed_is_0_and_a_failure_is_1(make_project: Callable[..., Orch]) -> None:
    orch = make_project({"test/good.test.sh": PASSES, "test/bad.test.sh": FAILS}, name="a project, with spaces")
    passed = orch("run", "test/good.test.sh")
    assert "PASS" in passed.stdout
    assert "1 run: 1 passed" in passed.stdout
    failed = orch("run", "--junit", "report.xml", expect=1)
    assert "FAIL" in failed.stdout
    assert "| went wrong" in failed.stdout
    assert "2 run: 1 passed, 1 failed" in failed.stdout

    folder = run_folders(orch)[-1]
    assert (orch.project / ".orch/latest").resolve() == folder
    document = json.loads((folder / "run.json").read_text())
    jsonschema.validate(document, run_schema())
    assert outcomes(document) == {"test/good.test.sh": "passed", "test/bad.test.sh": "failed"}
    assert document["run"]["exit_code"] == 1
    assert document["ledger"] == {"expected": 2, "created": 2, "removed": 2, "left": [], "unexpected": []}
    assert objects_of(document["run"]["id"]) == []
    link = next((folder / "by-status/failed").iterdir())
    assert (link / "stderr").read_text() == "went wrong\n"

    cases = list(ET.parse(orch.project / "report.xml").iter("testcase"))
    assert len(cases) == 2
    assert [case.find("failure") is not None for case in cases].count(True) == 1


def test_figures_come_from_the_kernel(make_project: Callable[..., Orch]) -> None:
    busy = "def test_it():\n    taken = b'x' * 40_000_000\n    assert sum(range(3_000_000)) and taken\n"
    (test,) = run_json(make_project({"test/test_busy.py": busy}))["tests"]
    usage = test["usage"]
    assert usage["source"] in {"kernel", "agent"}
    assert 0.05 < usage["cpu_seconds"] < 30
    assert 40_000_000 < usage["memory_peak_bytes"] < test["limits"]["memory_bytes"]
    assert usage["pids_peak"] >= 1
    assert usage["oom_kills"] == 0
    assert [case["name"] for case in test["cases"]] == ["test_it"]


def test_the_environment_of_a_test(make_project: Callable[..., Orch]) -> None:
    looks = """#!/bin/sh
set -e
[ "$(id -u):$(id -g)" = 1001:1001 ]
[ "$ORCH" = 1 ] && [ "$ORCH_TEST_ID" = test/looks.test.sh ] && [ "$ORCH_PROFILE" = fast ] && [ "$TZ" = UTC ]
[ "$ORCH_MEMORY_LIMIT" = 134217728 ] && [ "$ORCH_ATTEMPT" = 1 ] && [ "$TEST_TIMEOUT" = 2 ]
[ -z "$SECRET_OF_THE_HOST" ]
cat data.txt && [ ! -e .orch/runs ]
! touch data.txt 2>/dev/null && ! touch /usr/x 2>/dev/null
echo x >/tmp/scratch
mkdir "$ORCH_OUTPUT_DIR/kept" && echo back >"$ORCH_OUTPUT_DIR/kept/file"
"""
    made = make_project({"test/looks.test.sh": looks, "data.txt": "the project's own\n"})
    orch = Orch(project=made.project, env={"SECRET_OF_THE_HOST": "x"})
    done = orch("run", "--profile", "fast", "--success-output", "immediate")
    assert "the project's own" in done.stdout
    (kept,) = run_folders(orch)[-1].glob("tests/*/outputs/kept/file")
    assert kept.read_text() == "back\n"


def test_violations_fail_is_3(make_project: Callable[..., Orch]) -> None:
    orch = make_project({"test/leaves.test.sh": LEAVES_A_PROCESS})
    warned = orch("run")
    assert "LEAK" in warned.stdout
    assert "sleep 600" in warned.stdout
    document = run_json(orch, "--violations", "fail", expect=3)
    assert [v["kind"] for v in document["tests"][0]["violations"]] == ["process-leak"]
    assert outcomes(document) == {"test/leaves.test.sh": "passed"}


def test_nothing_selected_is_4_unless_configured(make_project: Callable[..., Orch]) -> None:
    orch = make_project({"README": "no tests here\n"})
    refused = orch("run", expect=4)
    assert "no tests selected" in refused.stderr
    assert "--no-tests pass" in refused.stderr
    assert "no tests selected" in orch("run", "--no-tests", "warn").stderr
    assert orch("run", "--no-tests", "pass").stderr == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--profile", "standrad"], "standard"),
        (["-E", "test(("], ""),
        (["--rerun", "deadbeef"], "deadbeef"),
        (["--shard", "3/2"], "shard 3 of 2"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_wrong_arguments_are_2_and_start_nothing(
    make_project: Callable[..., Orch], words: list[str], said: str
) -> None:
    orch = make_project({"test/good.test.sh": PASSES})
    refused = orch("run", *words, expect=2)
    assert said in refused.stderr
    assert refused.stdout == ""
    assert not (orch.project / ".orch/runs").exists()


def test_a_wrong_profiles_yaml_is_2_with_its_place(make_project: Callable[..., Orch]) -> None:
    text = "version: 1\nprofiles:\n  fast:\n    memmory: 64m\n"
    orch = make_project({"test/good.test.sh": PASSES, "profiles.yaml": text})
    refused = orch("run", expect=2)
    assert "profiles.yaml:4:5: " in refused.stderr
    assert "memory" in refused.stderr


def test_strict_limits_refuse_a_profile_larger_than_the_host(make_project: Callable[..., Orch]) -> None:
    text = "version: 1\nprofiles:\n  huge: {cpus: 1000, memory: 64m, tmpfs: 8m, timeout: 5s}\n"
    orch = make_project({"test/good.test.sh": PASSES, "profiles.yaml": text})
    refused = orch("run", "--profile", "huge", "--strict-limits", expect=2)
    assert "huge" in refused.stderr
    (test,) = run_json(orch, "--profile", "huge")["tests"]
    assert test["limits"]["cpus"] < 1000


@pytest.mark.parametrize("address", ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:1"])
def test_no_engine_is_36_at_once_with_one_remedy(make_project: Callable[..., Orch], address: str) -> None:
    orch = make_project({"test/good.test.sh": PASSES})
    starts, refusals = list[float](), list[float]()
    for _ in range(3):  # the best of each, on a machine that may be busy with other things
        began = time.monotonic()
        orch("db", "path")  # as much work as a start is
        started = time.monotonic()
        refused = orch("run", "--engine", address, expect=36)
        starts.append(started - began)
        refusals.append(time.monotonic() - started)
        if min(refusals) < max(2, 2 * min(starts)):
            break
    assert min(refusals) < max(2, 2 * min(starts)), (starts, refusals)
    assert address in refused.stderr
    assert len(refused.stderr.splitlines()) == 2
    assert not (orch.project / ".orch/runs").exists()


def test_jsonl_has_one_event_a_line(make_project: Callable[..., Orch]) -> None:
    orch = make_project({"test/good.test.sh": PASSES})
    events = [json.loads(line) for line in orch("run", "--format", "jsonl").stdout.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds == ["run-started", "test-started", "attempt-finished", "test-finished", "run-finished"]
    assert events[-1]["run"]["exit_code"] == 0
    stored = (run_folders(orch)[-1] / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in stored] == kinds


def test_max_fail_starts_nothing_new(make_project: Callable[..., Orch]) -> None:
    orch = make_project({f"test/{n}.test.sh": FAILS for n in range(5)})
    document = run_json(orch, "--jobs", "1", "--max-fail", "2", expect=1)
    assert [test["outcome"] for test in document["tests"]] == ["failed", "failed"]


def test_repeat_runs_each_test_n_times(make_project: Callable[..., Orch]) -> None:
    orch = make_project({"test/good.test.sh": PASSES})
    document = run_json(orch, "--fresh", "--repeat", "3")  # a pass in a reused slot has no folder
    assert [test["outcome"] for test in document["tests"]] == ["passed"] * 3
    assert len(list((run_folders(orch)[-1] / "tests").iterdir())) == 3


def test_flaky_passes_count_as_configured(make_project: Callable[..., Orch]) -> None:
    orch = make_project({"test/flaky.test.sh": '#!/bin/sh\n[ "$ORCH_ATTEMPT" -ge 2 ]\n'})
    assert run_json(orch, expect=1)["tests"][0]["flaky"] is False
    (test,) = run_json(orch, "--retries", "2", "--junit", "flaky.xml")["tests"]
    assert (test["outcome"], test["flaky"], len(test["attempts"])) == ("passed", True, 2)
    failed = orch("run", "--retries", "2", "--flaky-result", "fail", expect=1)
    assert "FLAKY" in failed.stdout
    assert ET.parse(orch.project / "flaky.xml").find(".//flakyFailure") is not None


def test_the_whole_run_has_a_deadline(make_project: Callable[..., Orch]) -> None:
    orch = make_project({f"test/{n}.test.sh": "#!/bin/sh\nsleep 50\n" for n in range(3)})
    document = run_json(orch, "--timeout", "2s", "--jobs", "1", "--profile", "slow", expect=1)
    assert 2 <= document["run"]["duration_seconds"] < 30
    assert "passed" not in outcomes(document).values()
    assert objects_of(document["run"]["id"]) == []


def test_rules_markers_comments_and_filters_select_profiles_and_tests(make_project: Callable[..., Orch]) -> None:
    text = """version: 1
default_profile: fast
rules:
  - {match: "test/deep/**", profile: slow}
  - {marker: heavy, profile: standard}
presets:
  ci: ["--retries 1", "--violations fail"]
suites:
  - {name: py, match: ["test/**/test_*.py"], runner: pytest}
  - {name: sh, match: ["test/**/*.test.sh"], runner: shell}
"""
    heavy = "import pytest\npytestmark = pytest.mark.heavy\n\n\ndef test_it():\n    pass\n"
    orch = make_project(
        {
            "profiles.yaml": text,
            "pytest.ini": "[pytest]\nmarkers = heavy\n",
            "test/deep/a.test.sh": PASSES,
            "test/plain.test.sh": PASSES,
            "test/hinted.test.sh": "#!/bin/sh\n# orch: profile=intensive\nexit 0\n",
            "test/test_heavy.py": heavy,
        }
    )
    planned = json.loads(orch("plan", "--format", "json").stdout)["tests"]
    assert {test["id"]: test["profile"] for test in planned} == {
        "test/deep/a.test.sh": "slow",
        "test/plain.test.sh": "fast",
        "test/hinted.test.sh": "intensive",
        "test/test_heavy.py": "standard",
    }
    listed = orch("list", "-E", "suite(sh) and not profile(intensive)").stdout.splitlines()
    assert listed == ["test/deep/a.test.sh", "test/plain.test.sh"]
    assert orch("list", "--only-profile", "standard").stdout.splitlines() == ["test/test_heavy.py"]
    dry = orch("run", "--dry-run", "--preset", "ci")
    assert "4 tests" in dry.stdout
    assert not (orch.project / ".orch/runs").exists()
    shards = [orch("list", "--shard", f"{n}/2").stdout.splitlines() for n in (1, 2)]
    assert sorted(shards[0] + shards[1]) == sorted(test["id"] for test in planned)
