"""However orch dies, nothing is left on a real engine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.engine import labels
from orchestrator.engine.cleanup.reaper import Reaper, find_orphans, remove_orphans, sweep_run
from orchestrator.engine.isolation.hardening import ContainerContext, container_spec
from orchestrator.engine.labels import Owner, helper_labels
from orchestrator.errors import NotFoundError
from orchestrator.measure.processes import owner_alive, owner_token
from tests.support.cgroups import cgroups_named
from tests.support.handmade import OPEN_SECCOMP, make_profile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.engine.base import ContainerSpec, Engine

pytestmark = pytest.mark.docker
ROOT = Path(__file__).parents[2]
CLEAN_SECONDS = 10.0


def traces(engine: Engine, run_id: str, place: Path) -> list[str]:
    """Return what is left of a run: labelled objects, cgroups, its temporary folder."""
    found = [f"{f.kind} {f.name}" for f in engine.find({labels.RUN: run_id})]
    cgroups = cgroups_named(f"orch[-_]{run_id[:8]}*")
    return [*found, *map(str, cgroups), *([str(place)] if place.exists() else [])]


def wait_until_clean(engine: Engine, run_id: str, place: Path) -> float:
    """Wait until nothing of the run is left, and return the seconds."""
    began = time.monotonic()
    while left := traces(engine, run_id, place):
        assert time.monotonic() - began < CLEAN_SECONDS, left
        time.sleep(0.1)
    return time.monotonic() - began


def status_of(engine: Engine, container: str) -> str:
    """Return a container's status; `being made` if the engine lists it but does not know its id yet."""
    try:
        return engine.inspect(container).state.status
    except NotFoundError:
        return "being made"


class Running:
    """A run in a process of its own, started when both its tests are running."""

    def __init__(self, engine: Engine, image: str, folder: Path) -> None:
        self.run_id = str(uuid.uuid4())
        self.place = folder / f"orch-{self.run_id}"
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("run_to_kill.py")), image, self.run_id, str(folder)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self.process.stdout is not None
        try:
            self.watchdog = int(self.process.stdout.readline())
            self._wait_until_running(engine)
        except BaseException:
            self.close()
            raise

    def _wait_until_running(self, engine: Engine) -> None:
        deadline = time.monotonic() + 30
        while len(self._running(engine)) < 2:
            assert self.process.poll() is None, "the run ended too early"
            assert time.monotonic() < deadline, "its tests were not started"
            time.sleep(0.05)

    def _running(self, engine: Engine) -> list[str]:
        found = engine.find({labels.RUN: self.run_id})
        return [f.id for f in found if status_of(engine, f.id) == "running"]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def running(engine: Engine, busybox_image: str, tmp_path: Path) -> Iterator[Running]:
    made = Running(engine, busybox_image, tmp_path)
    yield made
    made.close()
    sweep_run(engine, made.run_id, work_dir=str(made.place))


def gone(pid: int) -> bool:
    """Return whether the process does not exist or is a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_until_gone(pid: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not gone(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.05)


def test_kill_9_of_the_run_leaves_nothing(engine: Engine, running: Running) -> None:
    assert len(traces(engine, running.run_id, running.place)) >= 3
    running.process.send_signal(signal.SIGKILL)
    running.process.wait(10)
    seconds = wait_until_clean(engine, running.run_id, running.place)
    assert seconds < CLEAN_SECONDS
    wait_until_gone(running.watchdog, 20)


def test_a_second_run_is_untouched(
    engine: Engine, running: Running, busybox_image: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Running(engine, busybox_image, tmp_path_factory.mktemp("other"))
    try:
        running.process.send_signal(signal.SIGKILL)
        running.process.wait(10)
        wait_until_clean(engine, running.run_id, running.place)
        assert len(other._running(engine)) == 2
        assert find_orphans_of(engine, other.run_id) == []
    finally:
        other.close()
        wait_until_clean(engine, other.run_id, other.place)


def find_orphans_of(engine: Engine, run_id: str) -> list[str]:
    found = find_orphans(engine, owner_alive=owner_alive)
    return [f.name for f in found if f.labels[labels.RUN] == run_id]


def test_the_watchdog_killed_and_then_the_run(engine: Engine, running: Running) -> None:
    os.kill(running.watchdog, signal.SIGKILL)
    running.process.send_signal(signal.SIGKILL)
    running.process.wait(10)
    time.sleep(1.0)
    assert traces(engine, running.run_id, running.place) != []
    found = tuple(
        f for f in find_orphans(engine, owner_alive=owner_alive) if f.labels[labels.RUN] == running.run_id
    )
    assert len(found) == 2
    swept = remove_orphans(engine, found)
    assert swept.left == ()
    assert len(swept.removed) == 2
    assert traces(engine, running.run_id, running.place) == []


def idle_spec(image: str, owner: Owner, name: str, folder: Path) -> ContainerSpec:
    context = ContainerContext(project_root=folder, state_dir=None, seccomp=OPEN_SECCOMP, counters=())
    made = container_spec(
        make_profile(),
        context,
        name=name,
        image_id=image,
        labels=helper_labels(owner, name),
        streams_dir=None,
        cgroup_parent=None,
    )
    return replace(made, argv=("-c", "sleep 60"))


def test_the_reaper_sweeps_at_the_end_and_lets_the_watchdog_go(
    engine: Engine, busybox_image: str, tmp_path: Path
) -> None:
    run_id = str(uuid.uuid4())
    place = tmp_path / f"orch-{run_id}"
    place.mkdir()
    owner = Owner(run_id=run_id, token=owner_token(), work_dir=str(place))
    with Reaper(engine, owner) as reaper:
        assert reaper._watchdog is not None
        made = engine.create(idle_spec(busybox_image, owner, f"orch-{run_id[:8]}-idle", tmp_path))
        engine.start(made)
        assert find_orphans_of(engine, run_id) == []
    assert [f.id for f in reaper.swept.removed] == [made]
    assert reaper.swept.left == ()
    assert traces(engine, run_id, place) == []
    assert reaper._watchdog.poll() == 0


def test_labels_inherited_from_an_image_are_not_ours(engine: Engine, busybox_image: str, tmp_path: Path) -> None:
    """A container from an image that was committed from ours, and one with copied labels, are left alone."""
    run_id = str(uuid.uuid4())
    owner = Owner(run_id=run_id, token="0:1:1", work_dir=str(tmp_path))
    ours, theirs = f"orch-{run_id[:8]}-ours", f"somebodys-{run_id[:8]}"
    copied = replace(
        idle_spec(busybox_image, owner, ours, tmp_path), name=theirs
    )  # the labels name another container, as inherited ones do
    made = engine.create(copied)
    try:
        assert [f.name for f in engine.find({labels.RUN: run_id})] == [theirs]
        assert find_orphans_of(engine, run_id) == []
        assert sweep_run(engine, run_id, work_dir=None).removed == ()
        assert engine.inspect(made).state.status == "created"
    finally:
        engine.remove(made)


def test_a_container_found_while_it_is_being_made_does_not_come_back(
    engine: Engine, busybox_image: str, tmp_path: Path
) -> None:
    run_id = str(uuid.uuid4())
    owner = Owner(run_id=run_id, token=owner_token(), work_dir=str(tmp_path))
    specs = [idle_spec(busybox_image, owner, f"orch-{run_id[:8]}-{n}", tmp_path) for n in range(24)]
    try:
        with ThreadPoolExecutor(8) as makers:  # many at once, so that the engine needs longer to make one
            making = [makers.submit(engine.create, spec) for spec in specs]
            while not all(made.done() for made in making):
                for found in engine.find({labels.RUN: run_id}):
                    engine.remove_object(found)
                    assert found.id not in {left.id for left in engine.find({labels.RUN: run_id})}
    finally:
        sweep_run(engine, run_id, work_dir=None)
    assert engine.find({labels.RUN: run_id}) == ()
