"""What is left of a run's cgroups is found by its names; CASES D2."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

import pytest

from orchestrator.engine.cleanup import orphaned_slots
from orchestrator.engine.metering import parent_cgroups
from orchestrator.measure.processes import owner_alive, owner_mark

if TYPE_CHECKING:
    from pathlib import Path

RUN, OTHER = "11111111-1", "22222222-2"
ALIVE = owner_mark()
DEAD = ALIVE.rpartition(".")[0] + ".1"
"""Our pid, taken by another process before us."""
ELSEWHERE = "1." + ALIVE.partition(".")[2]
"""Of another pid namespace: nothing can be seen of it."""


@pytest.fixture(params=[("",), ("memory", "pids")], ids=["v2", "v1"])
def hierarchies(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    root = tmp_path / "cgroup"
    made = [root / name for name in request.param]
    for folder in made:
        folder.mkdir(parents=True)
    if request.param == ("",):
        (root / "cgroup.controllers").write_text("cpu memory")
    monkeypatch.setattr(parent_cgroups, "CGROUP_ROOT", root)
    monkeypatch.setattr(parent_cgroups, "lease_folder", lambda user=None: tmp_path / f"leases-{user}")
    monkeypatch.setattr(orphaned_slots, "_PROC", tmp_path / "proc")
    (tmp_path / "proc").mkdir()
    monkeypatch.setattr(parent_cgroups.systemd_slices, "stop_slices", lambda _: None)
    return made


def make(hierarchies: list[Path], *names: str) -> list[Path]:
    made = [hierarchy / name for hierarchy in hierarchies for name in names]
    for folder in made:
        folder.mkdir(parents=True)
    return made


def test_cgroups_of_a_run_go_with_what_is_in_them(hierarchies: list[Path]) -> None:
    ours = make(
        hierarchies,
        f"orch-{RUN[:8]}-{ALIVE}-1/abc",
        f"orch-{RUN[:8]}-{ALIVE}-12",
        f"orch_{RUN[:8]}_{ALIVE}_3.slice",
    )
    others = make(hierarchies, f"orch-{OTHER[:8]}-{ALIVE}-1", f"orch-{RUN[:8]}", "orch-u1000-1", "docker")
    assert orphaned_slots.remove(orphaned_slots.find_of_run(RUN)) == ()
    assert not any(folder.exists() for folder in ours)
    assert all(folder.exists() for folder in others)


def test_only_what_a_dead_orch_made_is_a_leftover(hierarchies: list[Path]) -> None:
    dead = f"orch-{RUN[:8]}-{DEAD}-1"
    make(hierarchies, f"{dead}/abc", f"orch-{OTHER[:8]}-{ALIVE}-1/abc", f"orch-{OTHER[:8]}-{ELSEWHERE}-1/abc")
    assert [one.name for one in orphaned_slots.find_of_dead(owner_alive)] == [dead]


def test_a_leased_parent_stays_and_what_a_container_left_in_it_goes(
    hierarchies: list[Path], tmp_path: Path
) -> None:
    left = make(hierarchies, "orch-u77-1/abc")
    held = make(hierarchies, "orch-u77-2/abc")
    (tmp_path / "leases-77").mkdir()
    with (tmp_path / "leases-77" / "2").open("w") as lease:
        fcntl.flock(lease, fcntl.LOCK_EX)
        found = orphaned_slots.find_of_dead(owner_alive)
        assert [one.name for one in found] == ["orch-u77-1"]
        assert orphaned_slots.remove(found) == ()
    assert not any(folder.exists() for folder in left)
    assert all(folder.parent.exists() for folder in left)
    assert all(folder.exists() for folder in held)


def test_what_cannot_be_removed_is_said(hierarchies: list[Path]) -> None:
    make(hierarchies, f"orch-{RUN[:8]}-{DEAD}-1")
    for hierarchy in hierarchies:
        (hierarchy / f"orch-{RUN[:8]}-{DEAD}-1" / "cgroup.procs").write_text("")  # a plain file: rmdir refuses
    (problem,) = orphaned_slots.remove(orphaned_slots.find_of_dead(owner_alive))
    assert f"cgroup orch-{RUN[:8]}-{DEAD}-1" in problem
    assert ("sudo orch clean" in problem) == (os.geteuid() != 0)
