from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.engine.agent.protocol import parse_end, parse_launch
from orchestrator.engine.isolation import hardening
from orchestrator.engine.slots import preload
from orchestrator.model.evidence import Launch
from orchestrator.model.suites import Preload
from tests.support.handmade import make_assignment, make_profile

ARGV = ("python3", "-m", "pytest", "-q", "--junitxml={output_dir}/junit.xml", "-o", "junit_suite_name=orch-")


def assignment(target: str, word: str = "1", mode: Preload = Preload.START, **more: Any) -> Any:
    given = make_assignment(profile=make_profile(reuse=10))
    command = replace(given.test.command, argv=(*ARGV[:-1], ARGV[-1] + word, target), preload=mode, **more)
    return replace(given, run_id="run", test=replace(given.test, command=command))


def test_tests_that_differ_in_target_and_name_share_a_server() -> None:
    one, two = preload.plan(assignment("a/test_a.py", "1")), preload.plan(assignment("b/test_b.py::x", "2"))
    assert one is not None and two is not None  # noqa: PT018
    assert one.key == two.key
    request = json.loads(two.request)
    assert request["target"] == "b/test_b.py::x"
    assert request["folder"] == "b"
    assert request["suite_name"] == "orch-2"
    assert request["argv"][-2:] == ["junit_suite_name=orch-2", "b/test_b.py::x"]
    assert set(request["env"]) == {"ORCH_TEST_ID", "ORCH_ATTEMPT"}


@pytest.mark.parametrize("more", [{"mode": Preload.COLLECT}, {"env": {"A": "b"}}, {"working_dir": "sub"}])
def test_another_server_for_what_configuring_can_see(more: Any) -> None:
    one, two = preload.plan(assignment("test_a.py")), preload.plan(assignment("test_a.py", **more))
    assert one is not None and two is not None  # noqa: PT018
    assert one.key != two.key


def test_not_for_other_programs_nor_for_a_slot_used_once() -> None:
    given = assignment("test_a.py")
    assert preload.plan(replace(given, profile=make_profile(reuse=1))) is None
    assert preload.plan(assignment("test_a.py", mode=Preload.OFF)) is None
    assert preload.preloading(Preload.START, ["sh", "-c", "x", "y"], "/work", {}) is None
    assert preload.plan(assignment("x" * preload.MAX_REQUEST_BYTES)) is None


def test_a_server_is_started_once() -> None:
    plan = preload.plan(assignment("it's.py"))
    assert plan is not None
    started, asked = preload.setup_script(plan, None, None), preload.setup_script(plan, plan.key, plan.template)
    assert started.endswith(asked)
    assert shlex.split(asked) == [f"request={plan.request}"]
    elsewhere = preload.setup_script(plan, plan.key, "another/folder")
    assert shlex.split(elsewhere) == ["prepare=yes", f"request={plan.request}"]
    assert shlex.split(started)[:3] == ["orch_server", "/work", "python3"]
    assert max(map(len, preload.server_argv())) < 128 << 10


@pytest.mark.parametrize(
    ("head", "launch"),
    [
        ("code 0", (Launch.PROCESS, None)),
        ("code 1 forked", (Launch.FORKED, None)),
        ("code 1 refused threads run: bg", (Launch.PROCESS, "threads run: bg")),
    ],
)
def test_the_record_says_how_a_test_was_launched(head: str, launch: Any) -> None:
    text = f"{head}\n@/sys/x\n1\n"
    assert parse_launch(text) == launch
    assert parse_end(text) == (int(head.split()[1]), "@/sys/x\n1\n")


def test_what_is_charged_to_all_is_set_up_before_a_test() -> None:
    plan, collecting = (
        preload.plan(assignment("d/test_a.py")),
        preload.plan(assignment("d/test_a.py", mode=Preload.COLLECT)),
    )
    assert plan is not None and collecting is not None  # noqa: PT018
    assert preload.must_prepare(plan, None, None)
    assert preload.must_prepare(plan, plan.key, "another/folder")
    assert not preload.must_prepare(plan, plan.key, plan.template)
    assert preload.must_prepare(collecting, collecting.key, collecting.template)  # its module is imported for all


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_the_agent_reads_the_servers_answers(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    text = hardening.agent_text()
    function = "".join(
        text[text.index(f"{name}() {{") :].split("\n}\n")[0] + "\n}\n" for name in ("prepare_server", "ask_server")
    )
    script = """
exec 5>/dev/null
for answer in 'exit 3 17 18' 'refuse 17: conftest files hold open a: b' ''; do
    printf '%s' "${answer:+$answer
}" >"$1/a"; exec 6<"$1/a"
    request=x server=1 code=; ask_server; echo "$?|$code|$how|$server"
done
for answer in 'ready 17 18' 'refuse 17: threads run: a' ''; do
    printf '%s' "${answer:+$answer
}" >"$1/a"; exec 6<"$1/a"
    request=x server=1 how=; prepare_server; echo "$?|$request|$how|$server"
done
"""
    argv = [shell, *(["sh"] if shell == "busybox" else []), "-c", function + script, "x"]
    folder = subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip()
    done = subprocess.run([*argv, folder], capture_output=True, text=True, check=False)
    shutil.rmtree(folder)
    assert done.stdout.splitlines() == [
        "0|3| forked|17 18",
        "1|137| refused conftest files hold open a: b|17",
        "0|137| forked|",
        "0|x||17 18",
        "0|| refused threads run: a|17",
        "0|x||",
    ], done.stderr
