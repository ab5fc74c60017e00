"""docker-compose.test.yml is valid, its services run isolated as it says, and nothing is left."""

import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from tests.acceptance.conftest import Orch

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.test.yml"
BIN = Path(sys.executable).parent


def compose(project: str, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "docker-compose", "--project-name", project, "-f", FILE, *words],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, **env},
        cwd=ROOT,
    )


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], capture_output=True, text=True, timeout=60, check=True).stdout


def objects(project: str) -> str:
    wanted = f"label=com.docker.compose.project={project}"
    return (
        docker("ps", "--all", "--quiet", "--filter", wanted)
        + docker("volume", "ls", "--quiet", "--filter", wanted)
        + docker("network", "ls", "--quiet", "--filter", wanted)
    )


@pytest.fixture
def project():
    name = f"orch-compose-{uuid.uuid4().hex[:8]}"
    yield name
    compose(name, "down", "--volumes")
    assert objects(name) == ""


def test_the_file_is_valid():
    done = subprocess.run(
        [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", FILE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("service", ["test-isolation", "test-full"])
def test_the_suite_passes(project, service):
    done = compose(project, "run", "--rm", "-T", service)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout
    assert docker("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={project}") == ""
    results = compose(project, "run", "--rm", "-T", service, "cat", "/output/junit.xml")
    assert 'tests="6"' in results.stdout


def test_docker_test_script_runs_compose(project):
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "COMPOSE_PROJECT_NAME": project}
    done = subprocess.run(
        [
            ROOT / "scripts" / "docker-test.sh",
            "compose",
            "test-isolation",
            "python3",
            "-m",
            "pytest",
            "--version",
        ],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env=env,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pytest" in done.stdout + done.stderr


def test_a_failing_suite_has_exit_code_1(project):
    done = compose(project, "run", "--rm", "-T", "test-isolation", ORCH_TESTS="test/test_failure.py")
    assert done.returncode == 1
    assert "1 failed, 1 passed" in done.stdout


def test_another_project_and_its_whole_suite(project, tmp_path):
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "test_own.py").write_text("def test_own(): pass\n")
    tmp_path.chmod(0o755)
    done = compose(project, "run", "--rm", "-T", "test-isolation", ORCH_PROJECT=str(tmp_path), ORCH_TESTS="test")
    assert "1 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ("test-isolation", {"Memory": 512 * 2**20, "PidsLimit": 128, "NetworkMode": "none"}),
        ("test-full", {"Memory": 4 * 2**30, "PidsLimit": 1024, "NetworkMode": "bridge"}),
    ],
)
def test_the_containers_are_isolated_as_the_file_says(project, service, expected):
    name = f"{project}-{service}"
    process = subprocess.Popen(
        [BIN / "docker-compose", f"--project-name={project}", f"--file={FILE}"]  # noqa: RUF005 - two parts
        + ["run", "--rm", "-T", f"--name={name}", service, "sleep", "60"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )
    try:
        for _ in range(300):
            if docker("ps", "--quiet", "--filter", f"name=^{name}$"):
                break
            time.sleep(0.1)
        (found,) = json.loads(docker("inspect", name))
        status = docker("exec", name, "cat", "/proc/self/status")
        writable = docker(
            "exec", name, "sh", "-c", "for p in / /usr /work /home; do test -w $p && echo $p; done; true"
        )
    finally:
        subprocess.run(["docker", "kill", name], capture_output=True, check=False)
        process.wait(30)
    host = found["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert [name.removeprefix("CAP_") for name in host["CapAdd"] or []] == (
        ["SYS_PTRACE"] if service == "test-full" else []
    )
    assert {key: host[key] for key in expected} == expected
    assert host["MemorySwap"] == expected["Memory"]
    assert host["IpcMode"] == "private"
    assert host["NanoCpus"] == 2_000_000_000
    assert host["Init"] is True
    assert host["LogConfig"]["Type"] == "local"
    assert not host["Privileged"]
    assert {mount["Destination"]: mount["RW"] for mount in found["Mounts"]} == {
        "/work": False,
        "/output": True,
    }
    assert set(host["Tmpfs"]) == {"/tmp"}
    assert {"nosuid", "nodev"} <= set(host["Tmpfs"]["/tmp"].split(","))
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == ["1001"] * 4
    assert fields["CapEff"] == "0" * 16
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"
    assert writable == ""


@pytest.fixture
def report_image(tmp_path):
    """Build the image of the report service, with orch's dependencies, on a base that this machine has."""
    base = "orch/test-isolation:latest"
    script = "import sys; print('%d.%d' % sys.version_info[:2])"
    version = docker("run", "--rm", "--network=none", base, "python3", "-c", script).strip()
    wanted = [f"--platform={tag}" for tag in ("manylinux2014_x86_64", "manylinux_2_28_x86_64", "any")]
    locked = ["--require-hashes", f"--requirement={ROOT / 'requirements' / 'run.lock'}"]
    place = tmp_path / "image"
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--no-compile", "--only-binary=:all:"]
    pip += ["--disable-pip-version-check"]
    target = [f"--python-version={version}", f"--target={place / 'site'}"]
    subprocess.run([*pip, *target, *wanted, *locked], timeout=300, check=True)
    (place / "Dockerfile").write_text(
        f"FROM {base}\nUSER 0:0\nCOPY site /usr/local/lib/python{version}/dist-packages\n"
    )
    name = f"orch-compose-report-{uuid.uuid4().hex[:8]}"
    docker("build", "--quiet", "--tag", name, str(place))
    yield name
    docker("rmi", "--no-prune", name)


def test_the_nightly_report_is_made_of_what_was_run(project, report_image, tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "test_own.py").write_text("def test_own(): pass\n")
    (tmp_path / "profiles.yaml").write_text("version: 1\n")
    Orch(project=tmp_path)("run", "--offline-base", "--profile", "standard", "test/")
    place = {"ORCH_PROJECT": str(tmp_path), "ORCH_USER": f"{os.getuid()}:{os.getgid()}"}
    done = compose(project, "run", "--rm", "-T", "nightly-report", ORCH_IMAGE_REPORT=report_image, **place)
    assert done.returncode == 0, done.stdout + done.stderr
    made = tmp_path / ".orch" / "report"
    assert "test/test_own.py" in (made / "nightly.html").read_text()
    assert "orch_tests" in (made / "nightly.prom").read_text()
