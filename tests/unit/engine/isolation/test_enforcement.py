from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.coordinator.selection import with_notice
from orchestrator.engine.isolation.enforcement import remedy, require_enforced, unenforced
from orchestrator.errors import EngineError, ExitCode
from orchestrator.model.runs import EngineInfo
from tests.support.handmade import make_assignment

if TYPE_CHECKING:
    from pathlib import Path


def info(**changes: Any) -> EngineInfo:
    fields: dict[str, Any] = {
        "name": "podman",
        "version": "5.4.2",
        "api_version": "1.41",
        "address": "unix:///run/user/1000/podman/podman.sock",
        "local": True,
        "cgroup_version": 2,
        "cgroup_driver": "systemd",
        "rootless": True,
        "cpus": 2,
        "memory_bytes": 1 << 30,
        "kernel": "6.12",
        "operating_system": "debian",
        "architecture": "amd64",
        **changes,
    }
    return EngineInfo(**fields)


def delegate(root: Path, controllers: str) -> None:
    folder = root / f"user.slice/user-{os.geteuid()}.slice/user@{os.geteuid()}.service"
    folder.mkdir(parents=True)
    (folder / "cgroup.controllers").write_text(controllers + "\n")


def test_a_rootless_engine_on_v1_has_no_limits_whatever_it_says() -> None:
    engine = info(cgroup_version=1, cgroup_driver="cgroupfs")
    assert (engine.memory_limit, engine.cpu_limit, engine.pids_limit) == (True, True, True)
    assert unenforced(engine) == ("memory", "cpus", "pids")
    assert "cgroup v2" in remedy(engine)


def test_what_is_delegated_is_believed_over_podmans_answer(tmp_path: Path) -> None:
    delegate(tmp_path, "cpuset cpu io memory pids")
    assert unenforced(info(cpu_limit=False), root=tmp_path) == ()


def test_what_is_not_delegated_is_not_enforced_whatever_the_engine_says(tmp_path: Path) -> None:
    delegate(tmp_path, "memory pids")
    assert unenforced(info(), root=tmp_path) == ("cpus",)
    assert "Delegate=cpu" in remedy(info())


def test_elsewhere_the_engines_own_word_counts(tmp_path: Path) -> None:
    assert unenforced(info(memory_limit=False), root=tmp_path) == ("memory",)
    assert unenforced(info(rootless=False, local=False, pids_limit=False), root=tmp_path) == ("pids",)
    assert unenforced(info(rootless=False)) == ()


def test_refused_with_the_remedy_or_each_result_marked() -> None:
    engine = info(cgroup_version=1)
    with pytest.raises(EngineError, match="does not enforce memory, cpus, pids") as refused:
        require_enforced(engine, allow=False)
    assert refused.value.exit_code is ExitCode.INFRA
    assert "--allow-unenforced" in (refused.value.remedy or "")
    notice = require_enforced(engine, allow=True)
    plan = (make_assignment("a"), make_assignment("b"))
    assert [a.clamped for a in with_notice(plan, notice)] == [
        ("not enforced by this engine: memory, cpus, pids",)
    ] * 2
    assert with_notice(plan, require_enforced(info(rootless=False), allow=False)) is plan
