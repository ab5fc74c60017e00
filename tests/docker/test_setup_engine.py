"""scripts/setup-engine does not touch a running engine, and starts and stops one of its own.

That engine runs in namespaces of its own (mounts, network, processes), so the machine's engine is not affected.
"""

import contextlib
import os
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "setup-engine"


MARK = f"ORCH_TEST_SETUP_ENGINE={uuid.uuid4()}"
"""A variable that what was started here inherits: other tests start and stop engines at the same time."""


def setup_engine(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *words], capture_output=True, text=True, timeout=120, check=False, env=environment(**env)
    )


def environment(**env: str) -> dict[str, str]:
    name, _, value = MARK.partition("=")
    return {**os.environ, name: value, **env}


def started_daemons() -> list[str]:
    """Return the running engines that these tests started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # ended meanwhile
                is_engine = (entry / "comm").read_text().strip() == "dockerd"
                if is_engine and MARK in (entry / "environ").read_text(errors="replace").split("\0"):
                    found.append(entry.name)
    return found


@pytest.mark.parametrize("verb", ["status", "start"])
def test_an_engine_that_answers_is_used(verb, tmp_path):
    done = setup_engine(verb, ORCH_ENGINE_STATE=str(tmp_path / "state"))
    assert done.returncode == 0, done.stderr
    assert "answers at" in done.stderr
    assert started_daemons() == []
    assert not (tmp_path / "state").exists()


def test_an_unusual_address_is_printed(tmp_path):
    link = tmp_path / "engine.sock"
    link.symlink_to(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"))
    done = setup_engine("status", DOCKER_HOST=f"unix://{link}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"DOCKER_HOST=unix://{link}\n"


def test_a_wrong_address_is_reported_and_nothing_is_started():
    done = setup_engine(DOCKER_HOST="unix:///nonexistent.sock")
    assert done.returncode == 1
    assert "unset DOCKER_HOST" in done.stderr
    assert done.stdout == ""
    assert started_daemons() == []


def test_stop_does_not_stop_what_it_did_not_start(tmp_path):
    done = setup_engine("stop", ORCH_ENGINE_STATE=str(tmp_path))
    assert done.returncode == 0
    assert "nothing to stop" in done.stderr
    # a process with this pid and another start time is not the engine
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        (tmp_path / "dockerd.pid").write_text(f"{sleeper.pid} 1 {boot}\n")
        assert "nothing to stop" in setup_engine("stop", ORCH_ENGINE_STATE=str(tmp_path)).stderr
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()
    assert started_daemons() == []


def test_an_unknown_verb_prints_the_usage():
    done = setup_engine("frobnicate")
    assert done.returncode == 2
    assert "setup-engine status" in done.stderr


OWN = """
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib/docker
export ORCH_ENGINE_STATE=/run/orch-state
unset DOCKER_HOST
"$1" status && exit 90
"$1"
read -r pid _ </run/orch-state/dockerd.pid
[ "$(cat /proc/$pid/comm)" = dockerd ]
"$1" 2>&1 | grep 'answers at'
[ "$(pgrep -cx dockerd)" = 1 ]
"$1" stop
"$1" status && exit 91
[ ! -e /proc/$pid ]
echo all done
"""


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("dockerd") or Path("/run/systemd/system").exists(),
    reason="needs root, an installed dockerd, and no systemd that would start the machine's own engine",
)
def test_it_starts_an_engine_and_stops_it():
    done = subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "sh", "-c", OWN, "sh", SCRIPT],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all done\n")
    assert started_daemons() == []
