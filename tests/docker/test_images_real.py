"""Images built by a real engine: built once, with the documented content, and nothing else is left."""

import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.engine.docker.engine import open_engine
from orchestrator.engine.images import offline_base
from orchestrator.engine.images.ensure import context_report, ensure_images
from orchestrator.model.profiles import ImageSpec

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[2]
CLOSED = (
    f"--security-opt=seccomp={ROOT / 'docker' / 'seccomp.json'}",
    "--security-opt=no-new-privileges",
    "--cap-drop=ALL",
    "--read-only",
    "--tmpfs=/tmp:exec,mode=1777",
    "--network=none",
)
TOOLS = [
    "gcc",
    "g++",
    "clang",
    "cmake",
    "gdb",
    "strace",
    "ltrace",
    "valgrind",
    "qemu-x86_64",
    "sqlite3",
    "curl",
    "ps",
    "bash",
    "python3",
    "pytest",
    "make",
    "tar",
]


@pytest.fixture(scope="module")
def engine():
    opened = open_engine()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def shipped(engine):
    specs = [
        ImageSpec(name=name, dockerfile=ROOT / "docker" / f"Dockerfile.test-{name}", context=ROOT)
        for name in ("isolation", "full")
    ]
    lines: list[str] = []
    return ensure_images(engine, specs, offline_base=True, on_line=lines.append)


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def inside(image: str, script: str, *options: str) -> str:
    return docker("run", "--rm", "--label=io.orch.testsuite=images", *options, image, "sh", "-c", script)


@pytest.mark.parametrize("name", ["isolation", "full"])
def test_an_image_has_the_tests_user_and_no_setuid_files(shipped, name):
    image = shipped[name]
    assert inside(image, "id -u; id -g; id -un", *CLOSED).split() == ["1001", "1001", "testuser"]
    # as root, so that the search sees everything
    assert inside(image, "find / -xdev -type f -perm /6000", "--user=0:0") == ""
    assert inside(image, "find / -xdev -user 1001 ! -path /output", "--user=0:0") == ""
    text = inside(image, "cd /tmp; echo 'def test_it(tmp_path): pass' >test_it.py; python3 -m pytest -q", *CLOSED)
    assert "1 passed" in text
    assert inside(image, "tar -cf - /etc/passwd 2>/dev/null | tar -tf -", *CLOSED).strip() == "etc/passwd"
    (description,) = json.loads(docker("image", "inspect", image))
    config = description["Config"]
    assert config["User"] == "1001:1001"
    assert config["Healthcheck"]["Test"][0] == "CMD"
    labels = config["Labels"]
    for key in ("title", "description", "version", "licenses"):
        assert labels[f"org.opencontainers.image.{key}"]
    assert labels["io.orch.image"] == name
    assert not config.get("Volumes")
    assert not config.get("Entrypoint")


@pytest.mark.parametrize("name", ["isolation", "full"])
def test_the_health_check_succeeds_and_fails(shipped, name):
    (description,) = json.loads(docker("image", "inspect", shipped[name]))
    check = description["Config"]["Healthcheck"]["Test"][1:]
    docker("run", "--rm", *CLOSED, shipped[name], *check)
    without_tmp = [option for option in CLOSED if not option.startswith("--tmpfs")]
    with pytest.raises(AssertionError):
        docker("run", "--rm", *without_tmp, shipped[name], *check)


def test_the_full_image_has_its_tools(shipped):
    missing = inside(shipped["full"], f"for t in {' '.join(TOOLS)}; do command -v $t >/dev/null || echo $t; done")
    lacking = set(inside(shipped["full"], "cat /etc/orch-missing-tools").split())
    assert set(missing.split()) <= lacking
    if os.uname().machine == "x86_64":
        assert lacking == set()


def test_the_isolation_image_is_small_and_starts_pytest_from_byte_code(engine, shipped):
    assert engine.image_bytes(shipped["isolation"]) < 100 * 2**20, "50 MB on Alpine, 71 MB on the offline base"
    script = "cd /tmp; echo 'def test_it(): pass' >test_it.py; python3 -v -m pytest -q -p no:cacheprovider 2>&1"
    loaded = [line for line in inside(shipped["isolation"], script, *CLOSED).splitlines() if "code object" in line]
    from_source = [line for line in loaded if line.endswith(".py") and "/usr/lib/" in line]
    assert len(loaded) > 100
    assert len(from_source) < 5


def test_no_stage_is_left_without_a_name(shipped):
    words = ("images", "--filter=dangling=true", "--filter=label=io.orch.stage", "--quiet", "--no-trunc")
    deadline = time.monotonic() + 60
    while (dangling := docker(*words)) and time.monotonic() < deadline:
        time.sleep(1)  # another process may be building
    assert dangling == ""


def test_the_second_time_nothing_is_built(engine, shipped):
    spec = ImageSpec(name="isolation", dockerfile=ROOT / "docker" / "Dockerfile.test-isolation", context=ROOT)
    lines: list[str] = []
    assert ensure_images(engine, [spec], offline_base=False, on_line=lines.append) == {
        "isolation": shipped["isolation"]
    }
    assert lines == []


def test_the_context_of_this_repository_shrinks_to_the_dockerfile():
    report = context_report(
        ImageSpec(name="full", dockerfile=ROOT / "docker" / "Dockerfile.test-full", context=ROOT)
    )
    assert report.files == (".dockerignore", "docker/Dockerfile.test-full")
    assert report.bytes_with_ignore * 10 < report.bytes_without_ignore


def test_a_project_image_on_top_is_built_once_by_many(engine, shipped, tmp_path):
    (tmp_path / "Dockerfile").write_text("ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY data /data\n")
    (tmp_path / "data").write_text(os.urandom(8).hex())
    base = ImageSpec(name="isolation", dockerfile=ROOT / "docker" / "Dockerfile.test-isolation", context=ROOT)
    mine = ImageSpec(name="images-real", dockerfile=tmp_path / "Dockerfile", context=tmp_path, base="isolation")
    built: list[str] = []

    def one(_: int) -> str:
        return ensure_images(engine, [base, mine], offline_base=True, on_line=built.append)["images-real"]

    try:
        with ThreadPoolExecutor(6) as pool:
            ids = set(pool.map(one, range(6)))
        assert len(ids) == 1
        assert sum(line.startswith("Successfully built") for line in built) == 1
        assert inside(ids.pop(), "cat /data", *CLOSED) == (tmp_path / "data").read_text()
    finally:
        for name in docker("images", "--format={{.Repository}}:{{.Tag}}", "orch/test-images-real").split():
            engine.remove_image(name)


@pytest.mark.slow
def test_an_offline_base_is_made_from_the_machines_own_mirror(engine):
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().split("\n") if "=" in line)
    codename = release["VERSION_CODENAME"]
    reference = "orch/offline-base:made-by-a-test"
    try:
        image = offline_base._make(engine, codename, offline_base.machine_sources(codename), reference)
        assert offline_base._is_fresh(engine.image_labels(image)[offline_base.LABEL])
        text = inside(
            image, "cat /etc/os-release; command -v apt-get; ls /usr/share/doc | wc -l", "--network=none"
        )
        assert f"VERSION_CODENAME={codename}" in text
        assert "/usr/bin/apt-get" in text
        assert engine.image_bytes(image) < 200 * 2**20
    finally:
        engine.remove_image(reference)
