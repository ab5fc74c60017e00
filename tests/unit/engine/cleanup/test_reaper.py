from __future__ import annotations

import io
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.engine import labels
from orchestrator.engine.cleanup.reaper import find_orphans, remove_orphans, remove_work_dir, sweep_run
from orchestrator.engine.isolation.hardening import ContainerContext, container_spec
from orchestrator.engine.labels import Owner, helper_labels
from orchestrator.errors import EngineError
from orchestrator.testing.engine import FakeEngine
from tests.support.handmade import make_profile

RUN, OTHER = "11111111-1", "22222222-2"
CONTEXT = ContainerContext(project_root=Path("/p"), state_dir=None, seccomp="{}", counters=())


@pytest.fixture
def fake() -> FakeEngine:
    return FakeEngine(info=replace(FakeEngine().info, local=True))


def make(engine: FakeEngine, run: str, name: str, *, real_name: str | None = None, work_dir: str = "") -> str:
    image = engine.import_rootfs(io.BytesIO(b"x"), "tiny:1", {})
    owner = Owner(run_id=run, token=f"token of {run}", work_dir=work_dir)
    spec: Any = container_spec(
        make_profile(),
        CONTEXT,
        name=name,
        image_id=image,
        labels=helper_labels(owner, name),
        streams_dir=None,
        cgroup_parent=None,
    )
    return engine.create(replace(spec, name=real_name or name))


def names(engine: FakeEngine) -> set[str]:
    return {container.spec.name for container in engine.containers}


def test_a_sweep_takes_its_own_run_and_nothing_else(fake: FakeEngine, tmp_path: Path) -> None:
    work_dir = tmp_path / "orch-work_dir"
    work_dir.mkdir()
    make(fake, RUN, "ours-1")
    fake.start(make(fake, RUN, "ours-2"))
    make(fake, OTHER, "theirs")
    make(fake, RUN, "ours-3", real_name="inherits-our-labels")
    owner = Owner(run_id=RUN, token="t", work_dir="")
    fake.add_object("volume", "v", helper_labels(owner, "v"))
    fake.add_object("network", "n", helper_labels(owner, "n"))
    fake.add_object("volume", "w", helper_labels(owner, "another"))
    swept = sweep_run(fake, RUN, work_dir=str(work_dir))
    assert {(found.kind, found.name) for found in swept.removed} == {
        ("container", "ours-1"),
        ("container", "ours-2"),
        ("volume", "v"),
        ("network", "n"),
    }
    assert [found.kind for found in swept.removed][:2] == ["container", "container"]
    assert swept.left == ()
    assert names(fake) == {"theirs", "inherits-our-labels"}
    assert {found.name for found in fake.find({labels.RUN: RUN})} == {"inherits-our-labels", "w"}
    assert not work_dir.exists()


def test_what_cannot_be_removed_is_told_and_the_rest_goes_on(fake: FakeEngine) -> None:
    for number in range(3):
        make(fake, RUN, f"ours-{number}")
    fake.fail("remove", EngineError("device or resource busy"), at=2)
    swept = sweep_run(fake, RUN, work_dir=None)
    assert len(swept.removed) == 2
    assert swept.left == ("container ours-1: device or resource busy",)
    assert sweep_run(fake, RUN, work_dir=None).left == ()
    assert names(fake) == set()


def test_an_engine_that_is_down_is_an_error(fake: FakeEngine) -> None:
    fake.fail("find", EngineError("down"))
    with pytest.raises(EngineError, match="down"):
        sweep_run(fake, RUN, work_dir=None)


def test_orphans_are_those_whose_owner_is_dead(fake: FakeEngine, tmp_path: Path) -> None:
    work_dir = tmp_path / "orch-dead"
    work_dir.mkdir()
    make(fake, RUN, "dead", work_dir=str(work_dir))
    make(fake, OTHER, "alive")
    make(fake, RUN, "x", real_name="inherits")
    found = find_orphans(fake, owner_alive=lambda token: OTHER in token)
    assert [one.name for one in found] == ["dead"]
    assert remove_orphans(fake, found).left == ()
    assert names(fake) == {"alive", "inherits"}
    assert not work_dir.exists()


def test_the_age_of_orphans(fake: FakeEngine) -> None:
    make(fake, RUN, "old")
    make(fake, RUN, "young")
    fake.containers[0].created_at = datetime.now(UTC) - timedelta(hours=2)
    found = find_orphans(fake, owner_alive=lambda _: False, older_than_seconds=3600)
    assert [one.name for one in found] == ["old"]


def test_a_place_is_removed_only_if_it_is_ours(tmp_path: Path) -> None:
    ours, named_otherwise, target = tmp_path / "orch-1", tmp_path / "home", tmp_path / "precious"
    for folder in (ours, named_otherwise, target):
        folder.mkdir()
        (folder / "file").write_text("")
    os.mkfifo(ours / "in")
    link = tmp_path / "orch-link"
    link.symlink_to(target)
    for work_dir in (ours, named_otherwise, link, tmp_path / "orch-none"):
        remove_work_dir(str(work_dir))
    assert not ours.exists()
    assert (named_otherwise / "file").exists()
    assert (target / "file").exists()
