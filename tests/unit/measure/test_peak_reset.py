from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.measure.cgroups import CgroupPaths
from orchestrator.measure.peak_reset import ResettablePeak


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(("version", "name"), [(1, "memory.max_usage_in_bytes"), (2, "memory.peak")])
def test_the_peak_is_reset_and_read_through_one_descriptor(tmp_path: Path, version: int, name: str) -> None:
    (tmp_path / "pids").mkdir()
    (tmp_path / "memory").mkdir()
    file = tmp_path / "memory" / name
    file.write_text("3\n")
    fresh = ResettablePeak.start(CgroupPaths(version, (tmp_path / "pids", tmp_path / "memory")))
    assert fresh is not None
    assert file.read_text() == "0\n"
    assert fresh.shared is (version == 1)
    file.write_text("4096\n")
    assert fresh.read() == 4096
    before = descriptors()
    fresh.close()
    fresh.close()
    assert descriptors() == before - 1
    assert fresh.read() is None


def test_no_file_no_reset(tmp_path: Path) -> None:
    assert ResettablePeak.start(CgroupPaths(2, (tmp_path,))) is None


def test_a_kernel_that_refuses_leaves_nothing_open(tmp_path: Path) -> None:
    (tmp_path / "memory.peak").symlink_to("/dev/full")  # writing to it fails, as with a kernel before 6.12
    before = descriptors()
    assert ResettablePeak.start(CgroupPaths(2, (tmp_path,))) is None
    assert descriptors() == before
