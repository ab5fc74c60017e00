"""The wheel and the sdist are accepted by the index, and work without a checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from email.policy import EmailPolicy
from typing import TYPE_CHECKING

import pytest

from orchestrator import __version__
from tests.acceptance.conftest import CHECKOUT, Orch, docker, objects_of, run_folders, write_files

if TYPE_CHECKING:
    from email.message import Message
    from pathlib import Path

DISTRIBUTION = "orch-runner"
PROJECT = {
    "test/test_ok.py": "def test_ok():\n    assert sum(range(4)) == 6\n",
    "test/where.test.sh": "#!/bin/sh\ntest -f /work/test/where.test.sh\n",
}


def python(*words: str | Path, cwd: Path | None = None) -> str:
    """Run this environment's Python without settings of the machine's user, and return its output."""
    done = subprocess.run(
        [sys.executable, *words], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@dataclass(frozen=True, kw_only=True)
class Built:
    """The files that would be uploaded."""

    sdist: Path
    wheel: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """An sdist of this checkout, and the wheel that is built from the unpacked sdist alone."""
    folder = tmp_path_factory.mktemp("dist")
    python("-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=CHECKOUT)
    (sdist,) = folder.glob("*.tar.gz")
    unpacked = tmp_path_factory.mktemp("source")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (source,) = unpacked.iterdir()
    python("-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=source)
    (wheel,) = folder.glob("*.whl")
    return Built(sdist=sdist, wheel=wheel)


@dataclass(frozen=True, kw_only=True)
class InstalledOrch(Orch):
    """The `orch` program of an environment that has the wheel and its dependencies and nothing else."""

    program: Path

    def command(self, *words: str) -> list[str]:
        return [str(self.program), *words]

    def environment(self) -> dict[str, str]:
        variables = super().environment()
        del variables["PYTHONPATH"]
        return variables


@pytest.fixture(scope="module")
def bare_environment(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new virtual environment, outside the checkout, into which pip installed the wheel from the index."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    python("-m", "venv", "--without-pip", folder)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        folder / "bin" / "python",
        "install",
        "--no-compile",
        "--disable-pip-version-check",
        "--quiet",
        built.wheel,
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        pip, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return folder


@pytest.fixture
def installed(bare_environment: Path, tmp_path: Path) -> InstalledOrch:
    """The installed program in a new project."""
    project = write_files(tmp_path / "project", PROJECT)
    return InstalledOrch(project=project, program=bare_environment / "bin" / "orch")


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return BytesHeaderParser(policy=EmailPolicy()).parsebytes(archive.read(name))


def test_the_index_accepts_both_files(built):
    said = python("-m", "twine", "check", "--strict", built.sdist, built.wheel)
    assert said.count("PASSED") == 2, said


def test_the_metadata(built):
    metadata = metadata_of(built.wheel)
    assert (metadata["Name"], metadata["Version"]) == (DISTRIBUTION, __version__)
    assert built.sdist.name == f"orch_runner-{__version__}.tar.gz"
    supported = {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13, 14)}
    assert supported <= set(metadata.get_all("Classifier", []))
    assert metadata["Author"]
    assert {entry.partition(",")[0] for entry in metadata.get_all("Project-URL", [])} >= {"Issues", "Source"}
    assert len(metadata.get_all("License-File", [])) == 2, "ours, and that of the JavaScript in reports"


def shipped_images() -> set[str]:
    """Names and IDs of the images that orch makes of its own Dockerfiles."""
    form = "{{.Repository}}:{{.Tag}} {{.ID}}"
    return {
        line for name in ("isolation", "full") for line in docker("images", "--format", form, f"orch/test-{name}")
    }


def test_the_main_job_without_a_checkout(installed):
    assert installed("--version").stdout == f"orch, version {__version__}\n"
    images = shipped_images()
    installed("build", "--offline-base", "--quiet", seconds=900)
    assert shipped_images() == images, (
        "a wheel carries the same Dockerfiles as the checkout, so it names and reuses the same images"
    )
    installed("init")
    assert (installed.project / "profiles.yaml").is_file()
    done = installed("run", "--profile", "standard", "test/")
    assert "2 passed" in done.stdout
    (folder,) = run_folders(installed)
    assert (folder / "junit.xml").is_file()
    assert "test/test_ok.py" in installed("offenders").stdout
    page = installed.project / "nightly.html"
    installed("report", "--since", "24h", "--html", str(page))
    assert "test/where.test.sh" in page.read_text(encoding="utf-8")
    assert objects_of(folder.resolve().name.rpartition("-")[2]) == []


def test_without_an_engine_the_remedy_works_for_an_installed_orch(installed):
    nowhere = installed("run", "--engine", f"unix://{installed.project}/no.sock", expect=36)
    assert "start Docker or Podman" in nowhere.stderr
    assert "scripts/" not in nowhere.stderr
