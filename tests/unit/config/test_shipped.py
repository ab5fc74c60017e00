from __future__ import annotations

import runpy
import shutil
from pathlib import Path

from orchestrator.config import shipped

ROOT = Path(__file__).parents[3]


def test_a_checkout_has_the_folder_beside_the_package() -> None:
    assert shipped.docker_folder() == ROOT / "docker"


def test_an_installed_package_has_it_inside(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "orchestrator"
    (package / "config").mkdir(parents=True)
    (package / "_docker").mkdir()
    (tmp_path / "site-packages" / "docker").mkdir()  # the Docker SDK's own package, not ours
    module = shutil.copy(shipped.__file__, package / "config")
    assert runpy.run_path(str(module))["docker_folder"]() == package / "_docker"
