"""Each kind of violation in a real run of examples/violations, and what the agent reports."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.errors import ConflictError
from orchestrator.model.outcomes import Outcome
from orchestrator.model.violations import ViolationKind
from orchestrator.verdict.violations import violations
from tests.docker.test_slots_real import bench, sampler  # noqa: F401 - fixtures
from tests.support.handmade import make_profile

if TYPE_CHECKING:
    from orchestrator.model.evidence import Evidence
    from tests.docker.test_slots_real import Bench

pytestmark = pytest.mark.docker
CHECKOUT = Path(__file__).resolve().parents[2]
EXAMPLE = CHECKOUT / "examples/violations"

# test -> kind, severity and message of its violation
SHOWN = {
    "test/child_oom.sh": ("child-oom", "error", r"killed 1 process of the test at the memory limit of 64 MiB"),
    "test/cpu_budget.py": ("cpu-budget", "warning", r"used [78]\d\d ms of CPU time; its budget is 500 ms"),
    "test/cpu_throttled.py": ("cpu-throttled", "warning", r"throttled for .* by its limit of 0\.1 CPUs"),
    "test/fd_leak.py": ("fd-leak", "warning", r"open files of one process .*from \d+ to 1\d\d in the last"),
    "test/file_leak.sh": ("file-leak", "notice", r"left 40 entries in /tmp, 160 KiB in all: scratch-0, .*37 more"),
    "test/ipc_leak.py": ("ipc-leak", "warning", r"left 4 .*: shared memory segment 0 \(1 MiB\), semaphore set 0"),
    "test/memory_growth.py": (
        "memory-growth",
        "notice",
        r"anonymous memory grew steadily .* limit of 64 MiB after",
    ),
    "test/memory_near.py": ("memory-near", "warning", r"9\d % of its limit: (59|6\d)(\.\d)? MiB of 64 MiB"),
    "test/memory_over.py": ("memory-over", "error", r"needed more than its memory limit of"),
    "test/output_flood.sh": ("output-flood", "warning", r"wrote 977 KiB to stdout: only 64 KiB were kept"),
    "test/oversized.sh": ("oversized", "notice", r"slow is larger than needed: .* of what standard grants"),
    "test/pids_limit.py": (
        "pids-limit",
        "error",
        r"refused a new process or thread \d+ times? at its limit of 64",
    ),
    "test/process_leak.sh": ("process-leak", "warning", r"left 1 process running: sleep 600 \(pid \d+\)"),
    "test/thread_leak.py": ("thread-leak", "warning", r"threads of one process .*from \d+ to \d+ in the last"),
    "test/time_near.sh": ("time-near", "warning", r"took 9\d % of its time limit: 3\.\d+ s of 4 s"),
    "test/time_over.sh": ("time-over", "error", r"did not end within its time limit of 4 s"),
    "test/tmpfs_full.sh": ("tmpfs-full", "error", r"/tmp is full .*: 16 MiB of 16 MiB"),
}
ELSEWHERE = {"disk-write", "object-leak"}
"""Shown by tests of their own below."""


def orch(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ORCH_")}
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", *words],
        cwd=project,
        env={**kept, "PYTHONPATH": str(CHECKOUT), "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the example in a temporary folder."""
    folder = tmp_path_factory.mktemp("example") / "violations"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".orch", "__pycache__"))
    return folder


@pytest.fixture(scope="module")
def document(project: Path) -> dict[str, Any]:
    """Return the JSON of one run of the whole example. Two of its tests cannot pass."""
    done = orch(project, "run", "--offline-base", "--format", "json", "-j", "2")
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_kind_is_shown() -> None:
    assert {kind for kind, _, _ in SHOWN.values()} | ELSEWHERE == {kind.value for kind in ViolationKind}


@pytest.mark.parametrize("name", sorted(SHOWN))
def test_a_real_run_shows_it_with_its_evidence(document: dict[str, Any], name: str) -> None:
    (result,) = (test for test in document["tests"] if test["id"] == name)
    kind, severity, sentence = SHOWN[name]
    shown = [violation for violation in result["violations"] if violation["kind"] == kind]
    assert len(shown) == 1, result
    assert shown[0]["severity"] == severity
    assert re.search(sentence, shown[0]["message"]), shown[0]["message"]


def test_the_examples_have_no_other_violations(document: dict[str, Any]) -> None:
    """A test that must break two limits has both violations."""
    both = {"test/child_oom.sh": {"memory-over"}}
    for result in document["tests"]:
        own = {SHOWN[result["id"]][0]} if result["id"] in SHOWN else {"disk-write"}
        extra = {violation["kind"] for violation in result["violations"]} - own
        if result["id"].startswith("test/ok/"):
            assert [violation["kind"] for violation in result["violations"]] == []
        else:
            assert extra <= both.get(result["id"], set()), result


def test_disk_writes_are_reported_where_the_kernel_counts_them(document: dict[str, Any]) -> None:
    (result,) = (test for test in document["tests"] if test["id"] == "test/disk_write.sh")
    written = result["usage"]["write_bytes"]
    if written is None:  # cgroup v1 on a kernel without the accounting of its I/O schedulers
        assert "no I/O" in result["usage"]["missing"]["write_bytes"]
        assert result["violations"] == []
        pytest.skip("this kernel counts no I/O of a cgroup")
    assert written >= 8 << 20
    (violation,) = result["violations"]
    assert violation["kind"] == "disk-write"
    assert re.search(r"wrote .* MiB to disk; the threshold is 4 MiB", violation["message"])


@pytest.mark.parametrize(
    ("policy", "name", "code", "kinds"),
    [
        ("warn", "process_leak.sh", 0, ["process-leak"]),
        ("fail", "process_leak.sh", 3, ["process-leak"]),
        ("fail", "file_leak.sh", 0, ["file-leak"]),  # a notice
        ("off", "process_leak.sh", 0, []),
    ],
)
def test_what_violations_do_to_a_run(project: Path, policy: str, name: str, code: int, kinds: list[str]) -> None:
    words = ("run", "--offline-base", "--format", "json", "--violations", policy, f"test/{name}")
    done = orch(project, *words)
    assert done.returncode == code, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert [violation["kind"] for violation in told["tests"][0]["violations"]] == kinds
    assert told["run"]["exit_code"] == code
    kept = json.loads((project / ".orch/latest/run.json").read_text())
    assert kept["tests"][0]["violations"] == told["tests"][0]["violations"]


def test_thresholds_and_off_in_profiles_yaml(project: Path) -> None:
    text = (project / "profiles.yaml").read_text()
    changed = text.replace("disk_write: 4m", "files_left: off, files_left_size: 100k, open_files_growth: 500")
    (project / "other.yaml").write_text(changed)
    words = (
        "run",
        "--offline-base",
        "--format",
        "json",
        "--config",
        "other.yaml",
        "test/file_leak.sh",
        "test/fd_leak.py",
    )
    told = json.loads(orch(project, *words).stdout)
    found = {
        test["id"]: [(v["kind"], v["unit"], v["limit"]) for v in test["violations"]] for test in told["tests"]
    }
    assert found == {"test/file_leak.sh": [("file-leak", "bytes", 100 << 10)], "test/fd_leak.py": []}


# ---------------------------------------------------------------- what the agent reports, in both shells


def places(evidence: Evidence) -> dict[str, tuple[int, tuple[str, ...]]]:
    assert evidence.agent is not None
    return {left.place: (left.entries, left.names) for left in evidence.agent.places}


def test_a_test_that_leaves_nothing(bench: Bench) -> None:  # noqa: F811
    evidence = bench.sh("echo x >/tmp/a; mkdir /dev/shm/b; rm -r /tmp/a /dev/shm/b")
    assert evidence.agent is not None
    assert (evidence.agent.places, evidence.agent.ipc) == ((), ())


def test_names_that_would_forge_the_record(bench: Bench) -> None:  # noqa: F811
    evidence = bench.sh(
        "cd /tmp; for n in -n 'a b' .hidden ..x 'n\ncode 0\n@x\nleft 5' 'left tmp 0' '*' \"$(printf '\\377')\";"
        'do true >"./$n"; done;'
        "ln -s nowhere dangling; echo x >/dev/shm/y; echo z >/output/z; exit 9"
    )
    assert evidence.agent is not None
    assert evidence.agent.exit_code == 9
    found = places(evidence)
    assert (found["/tmp"][0], found["/dev/shm"], found["/output"]) == (9, (1, ("y",)), (1, ("z",)))
    names = found["/tmp"][1]
    assert len(names) == 5
    assert all("\n" not in name for name in names)
    assert evidence.usage.cpu_seconds is not None
    (tmp,) = (left for left in evidence.agent.places if left.place == "/tmp")
    assert (tmp.used_bytes, tmp.size_bytes, tmp.used_inodes, tmp.size_inodes) == (0, 16 << 20, 10, 1000)


def test_a_place_that_is_full_of_files(bench: Bench) -> None:  # noqa: F811
    script = 'i=0; while [ $i -lt 70000 ] && true 2>/dev/null >/tmp/$i; do i=$((i+1)); done; echo "$i"'
    evidence = bench.sh(script, tmpfs_inodes=65536, memory_bytes=256 << 20)
    assert evidence.agent is not None
    assert evidence.stdout.tail == b"65535\n"
    (tmp,) = evidence.agent.places
    assert (tmp.entries, len(tmp.names), tmp.used_inodes, tmp.size_inodes) == (65535, 5, 65536, 65536)
    profile = make_profile(tmpfs_inodes=65536, memory_bytes=256 << 20)
    kinds = [v.kind.value for v in violations(evidence, profile=profile, outcome=Outcome.PASSED)]
    assert "tmpfs-full" in kinds


def test_leftovers_are_listed_without_a_free_process(bench: Bench) -> None:  # noqa: F811
    """Listing leftover files needs no fork."""
    evidence = bench.sh("echo x >/tmp/left; while :; do sleep 60 & done", pids=8, timeout_seconds=1)
    assert evidence.agent is not None
    assert places(evidence) == {"/tmp": (1, ("left",))}


def test_a_container_that_cannot_be_removed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    remove = bench.engine.remove

    def refuse(container: str) -> None:
        raise ConflictError(f"{container[:12]} is busy")

    monkeypatch.setattr(bench.engine, "remove", refuse)
    evidence = bench.sh("true")
    monkeypatch.undo()
    left = bench.containers()
    assert len(left) == 1
    (violation,) = violations(evidence, profile=make_profile(), outcome=Outcome.PASSED)
    assert (violation.kind, violation.severity) == (ViolationKind.OBJECT_LEAK, "error")
    assert violation.message == f"left 1 engine object: container {left[0]}"
    for found in bench.engine.find({"io.orch.run": bench.run_id}):
        remove(found.id)
    bench.executor.tally.removed += 1


IPC = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.shmget(0x0C1, 1 << 20, 0o1600), libc.semget(0x0C2, 3, 0o1600), libc.msgget(0x0C3, 0o1600)
class Attributes(ctypes.Structure):
    _fields_ = [("numbers", ctypes.c_long * 4), ("pad", ctypes.c_long * 4)]
import os
queue = libc.mq_open(b"/jobs", os.O_CREAT | os.O_RDWR, 0o600, ctypes.byref(Attributes((0, 4, 64, 0))))
assert queue >= 0, os.strerror(ctypes.get_errno())
"""


def test_ipc_of_every_kind(project: Path, document: dict[str, Any]) -> None:
    (project / "test/ipc_all.py").write_text(IPC)
    told = json.loads(orch(project, "run", "--offline-base", "--format", "json", "test/ipc_all.py").stdout)
    (violation,) = told["tests"][0]["violations"]
    assert violation["message"] == (
        "left 4 shared memory or IPC objects: shared memory segment 0 (1 MiB), semaphore set 0, "
        "message queue 0 and 1 more"
    )
