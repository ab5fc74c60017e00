"""The pool of prestarted slots on a real engine: slots are ready when needed, and nothing is left in any case."""

from __future__ import annotations

import threading
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from orchestrator.engine import labels
from orchestrator.engine.isolation import hardening
from orchestrator.engine.slots.fifos import FifoChannel
from orchestrator.engine.slots.prestarted_slots import PrestartedSlots
from orchestrator.errors import EngineError
from tests.support.handmade import OPEN_SECCOMP, make_assignment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from orchestrator.engine.base import Engine
    from orchestrator.model.tests import Assignment

pytestmark = pytest.mark.docker
READY = b"\norch-agent ready\n"


class Run:
    """Opens containers whose agent waits for work, as slots do. An item is a container's id and its streams."""

    def __init__(self, engine: Engine, image: str, folder: Path) -> None:
        self.engine, self.image, self.folder = engine, image, folder
        self.run_id = str(uuid.uuid4())
        (folder / "project").mkdir()
        self.context = hardening.ContainerContext(
            project_root=folder / "project", state_dir=None, seccomp=OPEN_SECCOMP, counters=()
        )

    def tests(self, count: int) -> list[Assignment]:
        return [make_assignment(path=f"t{number}", run_id=self.run_id) for number in range(count)]

    def open(self, assignment: Assignment) -> tuple[str, FifoChannel]:
        name = labels.container_name(assignment)
        owner = labels.Owner(run_id=self.run_id, token="", work_dir=str(self.folder))
        channel = FifoChannel(self.folder / name)
        spec = hardening.container_spec(
            assignment.profile,
            self.context,
            name=name,
            image_id=self.image,
            labels=labels.container_labels(assignment, owner, name),
            streams_dir=self.folder / name,
            cgroup_parent=None,
        )
        try:
            made = self.engine.create(spec)
        except EngineError:
            channel.close()
            raise
        self.engine.start(made)
        return made, channel

    def close(self, slot: tuple[str, FifoChannel]) -> None:
        self.engine.remove(slot[0])
        slot[1].close()

    def left(self) -> list[str]:
        return [found.name for found in self.engine.find(labels.run_filter(self.run_id))]


@pytest.fixture
def run(engine: Engine, busybox_image: str, tmp_path: Path) -> Iterator[Run]:
    made = Run(engine, busybox_image, tmp_path)
    yield made
    assert made.left() == []
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(f"orch-{made.run_id[:8]}")] == []
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("orch-slot-")] == []


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_prestarted_slots_belong_to_their_tests_and_are_removed_after_them(run: Run) -> None:
    pool = PrestartedSlots(run.open, run.close, max_ahead=2, starters=2, removers=1)
    line = run.tests(4)
    pool.prepare(line)
    until(lambda: len(run.left()) == 2)
    time.sleep(0.3)
    assert sorted(run.left()) == sorted(labels.container_name(test) for test in line[:2])
    for test in line[:3]:
        slot = pool.take(test)
        assert run.engine.inspect(slot[0]).name == labels.container_name(test)
        piece = slot[1].read(20)
        assert piece == ("stdout", READY)
        pool.retire(slot)
    pool.close()


@pytest.mark.parametrize("after_seconds", [0.0, 0.05, 0.15, 0.4])
def test_a_stop_while_slots_open_leaves_nothing(run: Run, after_seconds: float) -> None:
    pool = PrestartedSlots(run.open, run.close, max_ahead=4, starters=3, removers=2)
    pool.prepare(run.tests(6))
    time.sleep(after_seconds)
    pool.close()
    assert run.left() == []


def test_a_missing_image_raises_where_the_slot_is_taken(run: Run) -> None:
    run.image = f"sha256:{'0' * 64}"
    pool = PrestartedSlots(run.open, run.close, max_ahead=1, starters=1, removers=1)
    (only,) = run.tests(1)
    pool.prepare([only])
    with pytest.raises(EngineError, match="No such image"):
        pool.take(only)
    pool.close()
