"""Find cgroups of the host, for tests that check that none was left behind."""

from __future__ import annotations

import glob
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


def cgroups_named(pattern: str) -> list[Path]:
    """Return the cgroups whose last name matches, in all hierarchies and at any depth."""
    # not Path.glob, which fails where a folder goes while it is walked through: others' come and go
    return [Path(found) for found in glob.glob(f"{ROOT}/**/{pattern}", recursive=True)]  # noqa: PTH207
