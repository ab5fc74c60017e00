from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.measure import cgroups
from orchestrator.measure.cgroups import CgroupPaths, locate, process_ids, read, remove
from orchestrator.measure.counters import Counters, parse_v1, parse_v2

RECORDED = Path(__file__).parent / "recorded"
CONTROLLER = {"cpuacct": "cpuacct", "cpu": "cpu", "memory": "memory", "pids": "pids", "blkio": "blkio"}


def recorded(name: str) -> dict[str, str]:
    return {file.name: file.read_text() for file in (RECORDED / name).iterdir()}


def v1_tree(root: Path, cgroup: str, *, together: bool) -> None:
    """The recorded container as the hybrid mounts it; `cpu` and `cpuacct` together or apart."""
    for name, text in recorded("v1/container").items():
        controller = name.partition(".")[0]
        folder = "cpu,cpuacct" if together and controller in {"cpu", "cpuacct"} else controller
        folder = "unified" if name == "memory.pressure" else folder
        place = root / folder / cgroup
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    (root / "unified" / cgroup / "cgroup.controllers").write_text("")
    (root / "unified" / cgroup / "cpu.stat").write_text("usage_usec 7\nnr_throttled 999\n")
    if together:
        (root / "cpu").symlink_to("cpu,cpuacct")
        (root / "cpuacct").symlink_to("cpu,cpuacct")


@pytest.mark.parametrize("together", [True, False])
def test_v1_is_read_from_all_its_hierarchies(tmp_path: Path, together: bool) -> None:
    v1_tree(tmp_path, "slot/abc", together=together)
    paths = locate("/slot/abc", None, tmp_path)
    assert paths is not None
    assert paths.version == 1
    assert len(paths.folders) == (5 if together else 6)
    assert read(paths) == parse_v1(recorded("v1/container"))


def test_v2_is_read_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    shutil.copytree(RECORDED / "v2/container", tmp_path / "slot")
    paths = locate("slot", None, tmp_path)
    assert paths == CgroupPaths(2, (tmp_path / "slot",))
    assert read(paths) == parse_v2(recorded("v2/container"))


def test_a_series_reads_what_a_sample_needs_and_no_more(tmp_path: Path) -> None:
    v1_tree(tmp_path, "slot", together=True)
    paths = locate("slot", 1, tmp_path)
    assert paths is not None
    whole = read(paths)
    absent = dict.fromkeys(("cpu_user_seconds", "cpu_system_seconds", "memory_peak_bytes", "pids_peak"))
    events = dict.fromkeys(("oom_kills", "pids_limit_hits"))
    assert read(paths, series=True) == replace(whole, **absent, **events)


def test_systemd_nests_slices_by_name(tmp_path: Path) -> None:
    place = tmp_path / "orch.slice" / "orch-a.slice" / "orch-a-s1.slice" / "docker-ff.scope"
    place.mkdir(parents=True)
    paths = locate("orch-a-s1.slice/docker-ff.scope", 2, tmp_path)
    assert paths is not None
    assert paths.folders == (place,)


@pytest.mark.parametrize("cgroup", ["", "/", "..", "/../etc", "slot/../..", ".", "\0", "absent"])
def test_nothing_is_located_at_the_root_nor_outside_nor_nowhere(tmp_path: Path, cgroup: str) -> None:
    (tmp_path / "cgroup.controllers").write_text("")
    (tmp_path / "slot").mkdir()
    assert locate(cgroup, None, tmp_path) is None
    assert locate("slot", None, tmp_path) is not None


def test_no_cgroup_file_system_at_all(tmp_path: Path) -> None:
    assert locate("slot", None, tmp_path) is None
    assert locate("slot", 1, tmp_path / "nowhere") is None


def test_what_vanishes_between_locating_and_reading_is_none(tmp_path: Path) -> None:
    shutil.copytree(RECORDED / "v2/container", tmp_path / "slot")
    paths = locate("slot", 2, tmp_path)
    assert paths is not None
    assert read(paths).oom_kills == 1
    shutil.rmtree(tmp_path / "slot")
    assert read(paths) == Counters()


def test_what_may_not_be_read_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(RECORDED / "v2/container", tmp_path / "slot")
    paths = locate("slot", 2, tmp_path)
    assert paths is not None
    (tmp_path / "slot" / "memory.peak").unlink()
    (tmp_path / "slot" / "memory.peak").mkdir()  # opens, and fails when read: root is not stopped by modes
    assert read(paths).memory_peak_bytes is None
    assert read(paths).pids_peak == 20
    monkeypatch.setattr(cgroups, "_READ_BYTES", 7)  # a file longer than one read is read to its end
    assert read(paths).memory_pressure_ratio == 0.0048


def test_process_ids(tmp_path: Path) -> None:
    (tmp_path / "slot").mkdir()
    paths = CgroupPaths(2, (tmp_path / "slot",))
    assert process_ids(paths) == ()
    (tmp_path / "slot" / "cgroup.procs").write_text("17\n4\n0\n")
    assert process_ids(paths) == (17, 4, 0)


def test_remove_takes_children_first_and_says_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for hierarchy in ("memory", "pids"):
        (tmp_path / hierarchy / "slot" / "child").mkdir(parents=True)
    paths = CgroupPaths(1, (tmp_path / "memory/slot", tmp_path / "pids/slot", tmp_path / "cpu/slot"))
    assert remove(paths)
    assert not [*(tmp_path / "memory").iterdir(), *(tmp_path / "pids").iterdir()]
    monkeypatch.setattr(cgroups, "_REMOVE_SECONDS", 0.05)
    (tmp_path / "memory" / "slot").mkdir()
    (tmp_path / "memory" / "slot" / "busy").write_text("like a cgroup with a process in it: rmdir fails")
    assert not remove(paths)
