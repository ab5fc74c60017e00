"""Files of a run with a wrong selection, without an engine and on a full disk (CASES A3, A7, A8, D10)."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.conftest import Orch, docker, run_folders, wait_until, write_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GREEN = '<?xml version="1.0"?><testsuites tests="1"><testsuite name="old"/></testsuites>'
CASES = """
import pytest

class Base:
    def test_inherited(self): pass

class TestC(Base):
    def test_own(self): pass

@pytest.mark.parametrize("n", [1, 2])
def test_p(n): pass
"""


def test_links_out_of_the_project_are_counted(make_project: Callable[..., Orch], tmp_path: Path) -> None:
    write_files(tmp_path / "out9", {"test_bad.py": "def test_bad(): assert 0\n"})
    orch = make_project({"test/test_a.py": "def test_a(): pass\n"})
    (orch.project / "test/test_bad.py").symlink_to("../../out9/test_bad.py")
    (orch.project / "test/more").symlink_to("../../out9")
    ran = orch("run")
    assert "2 not run: they lead out of the project: 'test/more/test_bad.py', 'test/test_bad.py'" in ran.stderr
    assert "\n2 not run: they lead out of the project\n" in ran.stdout
    document = json.loads((orch.project / ".orch/latest/run.json").read_text())
    assert [left["path"] for left in document["run"]["left_out"]] == ["test/more/test_bad.py", "test/test_bad.py"]
    runs = len(run_folders(orch))
    assert "2 tests cannot run" in orch("run", "--strict-selection", expect=4).stderr
    assert "leads outside the project" in orch("run", "test/test_bad.py", expect=4).stderr
    assert "does not exist" in orch("run", "test/test_a.py", "test/none.py", expect=4).stderr
    assert len(run_folders(orch)) == runs


@pytest.mark.parametrize("profile", ["slow", "fast"])  # in a fresh container; forked from a preloaded pytest
def test_cases_that_do_not_exist_are_4_and_not_recorded(make_project: Callable[..., Orch], profile: str) -> None:
    text = f"version: 1\nprofiles: {{{profile}: {{timeout: 20s}}}}\n"
    orch = make_project({"test/test_a.py": CASES, "profiles.yaml": text})
    absent = ["test_p[3]", "TestC::test_none"]
    there = ["TestC::test_inherited", "test_p[2]"]
    words = [f"test/test_a.py::{case}" for case in (*absent, *there)]
    ran = orch("run", "--profile", profile, *words, expect=4)
    for case in absent:
        assert f"pytest finds no case '{case}' in this file" in ran.stdout
    assert "4 run: 2 passed, 2 skipped" in ran.stdout
    recorded = json.loads(orch("runs", "export").stdout)
    assert {test["id"] for test in recorded["tests"]} == set(words[-2:])
    orch("run", "--profile", profile, *words[-2:])


def test_a_case_that_its_file_cannot_have_starts_nothing_and_is_not_the_latest_run(
    make_project: Callable[..., Orch],
) -> None:
    orch = make_project({"test/test_a.py": CASES})
    for case in ("nocase", "TestNone"):
        refused = orch("run", "test/test_a.py::test_p", f"test/test_a.py::{case}", expect=4)
        assert f"test/test_a.py::{case}: there is no such case in the file" in refused.stderr
    assert not (orch.project / ".orch/latest").exists()


OUTPUTS = """
import os, socket
out = os.environ["ORCH_OUTPUT_DIR"]
os.chdir(out)
for name in ("a.txt", "z.txt", "h1", "new\\nline", "n" * 255, "closed.txt"):
    open(name, "w").write("kept")
os.link("h1", "h2")
os.truncate(os.open("m_sparse", os.O_CREAT | os.O_RDWR), 50 << 30)
os.makedirs("closed/deep")
open("closed/deep/file", "w").write("kept")
os.chmod("closed.txt", 0)
os.chmod("closed/deep", 0)
os.chmod("closed", 0)
os.symlink("/etc/shadow", "link")
os.mkfifo("fifo")
socket.socket(socket.AF_UNIX).bind("socket")
def test_a(): pass
"""


@pytest.mark.parametrize("reused", [False, True])  # by the agent's tar; by the server of preloaded tests
def test_each_output_is_kept_or_named(make_project: Callable[..., Orch], reused: bool) -> None:
    """Each file among a test's outputs is kept or named (CASES D9)."""
    text = f"version: 1\nprofiles: {{standard: {{reuse: {5 if reused else 1}}}}}\n"
    orch = make_project(
        {"test/test_a.py": OUTPUTS, "test/test_b.py": "def test_b(): pass\n", "profiles.yaml": text}
    )
    orch("run", "-j", "1", "--profile", "standard")
    document = json.loads((orch.project / ".orch/latest/run.json").read_text())
    (test,) = [test for test in document["tests"] if test["id"] == "test/test_a.py"]
    assert (test["outcome"], len(test["attempts"])) == ("passed", 1)
    (folder,) = (orch.project / ".orch/latest/tests").glob("*test_a.py*/outputs")
    kept = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    whole = ["a.txt", "z.txt", "h1", "h2", "new\nline", "n" * 255, "closed.txt", "closed/deep/file"]
    assert kept == {*whole, "junit.xml"}
    assert {(folder / name).read_text() for name in whole} == {"kept"}
    notes = "\n".join(test["outputs_notes"])
    assert "'m_sparse': larger than the 67108864 bytes that may come back" in notes
    for name in ("link", "fifo", "socket"):
        assert f"'{name}': not " in notes
    assert len(test["outputs_notes"]) == 4


def test_without_an_engine_no_old_report_is_left(make_project: Callable[..., Orch]) -> None:
    orch = make_project({"test/a.test.sh": "exit 0\n", "j.xml": GREEN})
    orch("run", "--junit", "j.xml", "--engine", "unix:///nowhere/docker.sock", expect=36)
    assert not (orch.project / "j.xml").exists()
    orch("run", "--junit", "j.xml")
    assert "a.test.sh" in (orch.project / "j.xml").read_text()
    process = orch.start("run", "--junit", "j.xml", "--show-progress", "none")
    assert wait_until(lambda: not (orch.project / "j.xml").exists(), 60)
    process.kill()
    process.communicate()
    assert not (orch.project / "j.xml").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_disk_that_fills_in_the_middle_loses_nothing(make_project: Callable[..., Orch], tmp_path: Path) -> None:
    """Results, logs, outputs and reports survive; the next run imports the results (CASES D5)."""
    files = {f"test/t{n:02}.test.sh": f"echo out {n}; sleep 0.3; exit {int(n % 8 == 7)}\n" for n in range(24)}
    files |= {f"test/test_{n}.py": "def test_a(): pass\n" for n in range(2)}
    files["profiles.yaml"] = "version: 1\nprofiles: {standard: {timeout: 60s}}\n"
    orch = make_project(files)
    orch = Orch(project=orch.project, env={"XDG_CACHE_HOME": str(tmp_path / "cache")})
    orch("build", "--offline-base", "--quiet", seconds=600)
    state = orch.project / ".orch"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(state)], check=True)
    try:
        process = orch.start("run", "-j", "2", "--profile", "standard", "--junit", "j.xml")
        assert wait_until(lambda: len(list(state.glob("runs/*/tests/*"))) > 4, 100)
        with (state / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
            while True:
                ballast.write(bytes(4096))
        out, err = process.communicate(timeout=200)
        assert process.returncode == 36, out + err
        assert "26 run: 23 passed, 3 failed" in out
        assert "database or disk is full" in err
        assert "imported by the next run" in err
        elsewhere = next((tmp_path / "cache/orch/full-disk/runs").iterdir())
        assert str(elsewhere) in err
        document = json.loads((elsewhere / "run.json").read_text())
        assert len(document["tests"]) == 26
        assert (orch.project / "j.xml").read_text().count("<testcase") == 26
        logs = [path.read_text() for top in (state, elsewhere) for path in top.glob("**/stdout")]
        assert {f"out {n}\n" for n in range(24)} <= set(logs)
        (state / "ballast").unlink()
        again = orch("run", "test/t00.test.sh")
        assert " were imported" in again.stderr
        recorded = json.loads(orch("runs", "export", document["run"]["id"]).stdout)
        assert (len(recorded["tests"]), recorded["not_run"]) == (26, [])
        assert not list((tmp_path / "cache/orch/full-disk").glob("spool-*/*"))
    finally:
        subprocess.run(["umount", "--lazy", str(state)], check=True)


def test_no_secret_is_kept_or_can_be_seen_in_the_engine(make_project: Callable[..., Orch], tmp_path: Path) -> None:
    secrets = {"API_TOKEN": "s3cr3t-one", "PLAIN": "s3cr3t-two", "HOST_PASSWORD": "s3cr3t-three"}
    settings = (
        "version: 1\nprofiles: {standard: {reuse: 3}}\n"
        "suites: [{name: s, match: ['test/*.sh'], runner: shell, pass_env: [HOST_PASSWORD],\n"
        "          env: {API_TOKEN: s3cr3t-one, PLAIN: s3cr3t-two}}]\n"
    )
    check = "test $API_TOKEN$PLAIN$HOST_PASSWORD = s3cr3t-ones3cr3t-twos3cr3t-three || exit 1; sleep 2\n"
    orch = make_project({"test/a.sh": check, "test/b.sh": f"{check}exit 1\n", "profiles.yaml": settings})
    cache = tmp_path / "cache"
    orch = Orch(project=orch.project, env={"XDG_CACHE_HOME": str(cache), "HOST_PASSWORD": "s3cr3t-three"})
    orch("build", "--offline-base", "--quiet", seconds=600)
    process = orch.start("run", "-j", "1")
    seen: list[str] = []

    def looked() -> bool:
        names = docker("ps", "-q", "--filter", f"volume={orch.project}")
        with suppress(
            subprocess.CalledProcessError
        ):  # a container from the start of the run that has been removed
            seen.extend(docker("top", names[0]) + docker("inspect", names[0]) if names else [])
        return bool(seen)

    assert wait_until(looked, 120)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1, out + err
    shown = orch("repro", "latest:b.sh").stdout + orch("show-config").stdout
    assert "--env API_TOKEN \\" in shown
    kept = [p for top in (orch.project / ".orch", cache) for p in top.rglob("*") if p.is_file()]
    assert any(p.name == "resources.db" for p in kept)
    everything = {"engine": "\n".join(seen), "printed": out + err}
    everything |= {str(path): path.read_bytes().decode("latin-1") for path in kept}
    leaks = [
        (where, name) for where, text in everything.items() for name, value in secrets.items() if value in text
    ]
    assert leaks == []
    assert "s3cr3t-one" not in shown
    assert "s3cr3t-three" not in shown
