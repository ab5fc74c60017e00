"""Limits of orch's own process are checked before anything is started (FAULTS O7, CASES D4)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from orchestrator.coordinator.process_limits import FILES, FILES_PER_SLOT

CHECKOUT = Path(__file__).resolve().parents[2]
NOWHERE = "unix:///nonexistent/docker.sock"
"""Who asked the engine first would exit with 36."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    made = tmp_path / "project"
    (made / "test").mkdir(parents=True)
    tmp_path.chmod(0o755)
    made.chmod(0o755)
    (made / "test" / "t.test.sh").write_text("exit 0\n")
    (made / "profiles.yaml").write_text(
        "version: 1\nimages: {tiny: {reference: 'tiny:1'}}\nprofiles:\n"
        "  small: {cpus: 1, memory: 64m, timeout: 10s, tmpfs: 8m, network: none, image: tiny}\n"
        "default_profile: small\n"
    )
    return made


def orch_under(project: Path, limits: str, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `orch run` in a shell that has set limits."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("ORCH_", "PYTHON"))}
    return subprocess.run(
        ["bash", "-c", f'{limits}; exec "$@"', "bash", sys.executable, "-m", "orchestrator", "run", *words],
        cwd=project,
        env={**kept, "PYTHONPATH": str(CHECKOUT), "DOCKER_HOST": NOWHERE, **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def assert_refused(done: subprocess.CompletedProcess[str], message: str, remedy: str) -> None:
    """Check for one line with the number and one with the remedy, and that nothing was started."""
    assert done.returncode == 2, done.stdout + done.stderr
    first, second = done.stderr.splitlines()
    assert message in first
    assert remedy in second
    assert done.stdout == ""


@pytest.mark.parametrize("files", [8, 12, 16, 20, 24, 32, 48, 64, FILES + 4 * FILES_PER_SLOT - 1])
def test_too_few_open_files(project: Path, files: int) -> None:
    needed = FILES + 4 * FILES_PER_SLOT
    done = orch_under(project, f"ulimit -n {files}", "-j", "4", "test")
    assert_refused(
        done,
        f"ulimit -n: 4 tests at once need {needed} open files, but the limit of orch is {files}",
        f"ulimit -n {needed}, or a lower -j",
    )
    assert not (project / ".orch" / "runs").exists()


def test_exactly_enough_open_files_are_accepted(project: Path) -> None:
    done = orch_under(project, f"ulimit -n {FILES + 4 * FILES_PER_SLOT}", "-j", "4", "test")
    assert (done.returncode, "no engine answers" in done.stderr) == (36, True)


def test_a_soft_limit_is_raised(project: Path) -> None:
    done = orch_under(project, "ulimit -Sn 64", "-j", "4", "test")
    assert (done.returncode, "no engine answers" in done.stderr) == (36, True)


def test_the_default_number_of_jobs_fits_the_limits(project: Path) -> None:
    for number in range(40):
        (project / "test" / f"more{number}.test.sh").write_text("exit 0\n")
    done = orch_under(project, f"ulimit -n {FILES + 2 * FILES_PER_SLOT}", "test")
    assert (done.returncode, "no engine answers" in done.stderr) == (36, True)


def test_too_little_address_space(project: Path) -> None:
    assert_refused(
        orch_under(project, "ulimit -v 600000", "-j", "1", "test"),
        "ulimit -v: a test needs 884736 KiB of address space, but the limit of orch is 600000",
        "ulimit -v 884736",
    )


def test_too_small_a_file_size(project: Path) -> None:
    done = orch_under(project, "ulimit -f 1000", "-j", "1", "test")
    assert_refused(done, "KiB a file, but the limit of orch is 1000", "ulimit -f")


@pytest.mark.skipif(os.geteuid() != 0, reason="root gives the process another user, of whom nothing else runs")
def test_too_few_processes(project: Path) -> None:
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("ORCH_", "PYTHON"))}
    with tempfile.TemporaryDirectory() as made:  # other users cannot enter pytest's own folders
        shutil.copytree(project, made, dirs_exist_ok=True)
        for path in (Path(made), *Path(made).rglob("*")):
            os.chown(path, 64998, 64998)
        limits = 'ulimit -u 20; exec setpriv --reuid=64998 --regid=64998 --clear-groups "$@"'
        done = subprocess.run(
            ["bash", "-c", limits, "bash", sys.executable, "-m", "orchestrator", "run", "-j", "1", "test"],
            cwd=made,
            env={**kept, "PYTHONPATH": str(CHECKOUT), "DOCKER_HOST": NOWHERE, "HOME": made},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert_refused(done, "processes and threads of this user, but the limit of orch is 20", "ulimit -u")


def test_no_room_for_temporary_files(project: Path, tmp_path: Path) -> None:
    """Python ignores a TMPDIR that it cannot use, but not one without room."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small file system in a namespace of its own")
    small = tmp_path / "small"
    small.mkdir()
    mount = f"mount -t tmpfs -o size=256k tmpfs {small}"
    words = ["unshare", "--mount", "bash", "-c", f'{mount}; exec "$@"', "bash", sys.executable]
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("ORCH_", "PYTHON"))}
    done = subprocess.run(
        [*words, "-m", "orchestrator", "run", "test"],
        cwd=project,
        env={**kept, "PYTHONPATH": str(CHECKOUT), "DOCKER_HOST": NOWHERE, "TMPDIR": str(small)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert_refused(done, f"{small} has 256K", "set TMPDIR")
