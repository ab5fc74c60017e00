from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.engine.metering import parent_cgroups
from orchestrator.engine.metering.parent_cgroups import (
    ParentKind,
    lease_parent,
    leased_name,
    own_name,
    parent_kind,
)
from orchestrator.engine.metering.slot_meter import own_names
from orchestrator.measure.processes import owner_alive, owner_mark, token_of_mark
from orchestrator.model.runs import EngineInfo

if TYPE_CHECKING:
    from pathlib import Path

RUN = "11111111-1"


def info(**changes: Any) -> EngineInfo:
    fields: dict[str, Any] = {
        "name": "docker",
        "version": "26.1.5",
        "api_version": "1.45",
        "address": "unix:///var/run/docker.sock",
        "local": True,
        "cgroup_version": 2,
        "cgroup_driver": "systemd",
        "rootless": False,
        "cpus": 2,
        "memory_bytes": 1 << 30,
        "kernel": "6.12",
        "operating_system": "debian",
        "architecture": "amd64",
        **changes,
    }
    return EngineInfo(**fields)


def test_a_slices_name_has_no_dash_so_that_systemd_does_not_nest_it() -> None:
    for name in (own_name("systemd", RUN, 7), leased_name("systemd", 1000, 3)):
        assert name.endswith(".slice")
        assert "-" not in name
    assert own_name("cgroupfs", RUN, 7) == f"/orch-11111111-{owner_mark()}-7"
    assert owner_alive(token_of_mark(owner_mark()))
    assert leased_name("cgroupfs", 1000, 3) == "/orch-u1000-3"


@pytest.mark.parametrize(
    ("changes", "user", "kind"),
    [
        ({}, 1000, ParentKind.LEASED),
        ({"cgroup_driver": "cgroupfs", "cgroup_version": 1}, 1000, ParentKind.LEASED),
        ({"rootless": True}, 1000, ParentKind.NONE),
        ({"local": False}, 0, ParentKind.NONE),
        ({"name": "podman"}, 0, ParentKind.NONE),
        ({"cgroup_driver": "none"}, 0, ParentKind.NONE),
    ],
)
def test_who_may_have_a_parent(
    changes: dict[str, Any], user: int, kind: ParentKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert parent_kind(info(**changes)) is kind


def test_root_that_cannot_write_the_hosts_cgroups_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(parent_cgroups, "CGROUP_ROOT", tmp_path / "absent")
    assert parent_kind(info(cgroup_driver="cgroupfs")) is ParentKind.NONE
    monkeypatch.setattr(parent_cgroups, "CGROUP_ROOT", tmp_path)
    assert parent_kind(info(cgroup_driver="cgroupfs")) is ParentKind.OWN
    monkeypatch.setattr(parent_cgroups.systemd_slices, "BOOTED", tmp_path / "absent")
    assert parent_kind(info(cgroup_driver="systemd")) is ParentKind.NONE  # nobody to stop a slice


def test_a_number_is_never_shared_and_is_free_again_after_its_release(tmp_path: Path) -> None:
    folder = tmp_path / "leases"
    made = [lease_parent("cgroupfs", 1, folder) for _ in range(3)]
    numbers = [p.lease.number for p in made if p is not None and p.lease is not None]
    assert numbers == [1, 2, 3]
    assert made[1] is not None
    made[1].close()
    again = lease_parent("cgroupfs", 1, folder)
    assert again is not None
    assert again.name == f"/orch-u{os.geteuid()}-2"
    for parent in (made[0], again, made[2]):
        assert parent is not None
        parent.close()
    assert not folder.exists()  # nothing is left of it


def test_another_process_gets_another_number_and_a_dead_one_holds_none(tmp_path: Path) -> None:
    folder = tmp_path / "leases"
    program = (
        "import sys; from pathlib import Path\n"
        "from orchestrator.engine.metering.parent_cgroups import lease_parent\n"
        "print(lease_parent('cgroupfs', 1, Path(sys.argv[1])).lease.number, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "1\n"
        ours = lease_parent("cgroupfs", 1, folder)
        other.kill()
    assert ours is not None
    assert ours.lease is not None
    assert ours.lease.number == 2
    after = lease_parent("cgroupfs", 1, folder)
    assert after is not None
    assert after.lease is not None
    assert after.lease.number == 1
    after.close()
    ours.close()


def test_many_at_once_never_share_a_number(tmp_path: Path) -> None:
    folder = tmp_path / "leases"
    program = (
        "import sys; from pathlib import Path\n"
        "from orchestrator.engine.metering.parent_cgroups import lease_parent\n"
        "folder = Path(sys.argv[1])\n"
        "for _ in range(200):\n"
        "    parent = lease_parent('cgroupfs', 1, folder)\n"
        "    mark = folder.parent / f'held-{parent.lease.number}'\n"
        "    mark.touch(exist_ok=False)\n"
        "    mark.unlink()\n"
        "    parent.close()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    others = [subprocess.Popen([sys.executable, "-c", program, str(folder)], env=environment) for _ in range(4)]
    assert [other.wait(60) for other in others] == [0, 0, 0, 0]


def test_a_folder_that_somebody_else_made_is_not_used(tmp_path: Path) -> None:
    target = tmp_path / "theirs"
    target.mkdir()
    folder = tmp_path / "leases"
    folder.symlink_to(target)
    assert lease_parent("cgroupfs", 1, folder) is None
    assert list(target.iterdir()) == []


def test_a_parent_in_which_something_still_runs_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = tmp_path / "cgroup" / f"orch-u{os.geteuid()}-1"
    busy.mkdir(parents=True)
    (busy / "pids.current").write_text("3\n")
    locate = parent_cgroups.cgroups.locate
    monkeypatch.setattr(parent_cgroups.cgroups, "locate", lambda name, _: locate(name, 2, tmp_path / "cgroup"))
    taken = lease_parent("cgroupfs", 2, tmp_path / "leases")
    assert taken is not None
    assert taken.lease is not None
    assert taken.lease.number == 2
    taken.close()


@pytest.mark.parametrize(
    ("changes", "parent", "first"),
    [
        ({}, "orch_1_1.slice", "/orch_1_1.slice/docker-ID.scope"),
        ({}, None, "/system.slice/docker-ID.scope"),
        ({"cgroup_driver": "cgroupfs"}, "/orch-1-1", "/orch-1-1/ID"),
        ({"cgroup_driver": "cgroupfs"}, None, "/docker/ID"),
        ({"name": "podman"}, None, "/machine.slice/libpod-ID.scope/container"),
        (
            {"name": "podman", "rootless": True},
            None,
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container",
        ),
    ],
)
def test_where_a_containers_own_cgroup_is(
    changes: dict[str, Any], parent: str | None, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert next(own_names(info(**changes), parent, "ID")) == first
