"""What reused slots cost without orch's bookkeeping: agent, streams and reader alone, beside `xargs`; and the
agent without any reader, all orders there beforehand and `cat` at the other end.

    python -m bench.floor FOLDER [TESTS]      FOLDER: a project of shell tests

Of the difference between the reader and `orch run`, all is verdicts, figures, events and the database; of that
between reader and no reader, a process of Python that is woken for each test. One line for each number of lanes,
the contenders in turn, in milliseconds a test.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, cast

from orchestrator.coordinator.session import container_context, load
from orchestrator.engine.docker.engine import open_engine
from orchestrator.engine.images.agent_shell import prepared_image
from orchestrator.engine.isolation import hardening
from orchestrator.engine.labels import Owner, helper_labels
from orchestrator.engine.slots.container import SlotContainer
from orchestrator.engine.slots.fifos import FifoChannel
from orchestrator.measure.processes import owner_token
from orchestrator.model.tests import Assignment
from orchestrator.stop_flag import StopFlag
from orchestrator.suites.discover import discover

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orchestrator.engine.agent.output_reader import OutputReader
    from orchestrator.engine.base import ContainerEngine, ContainerSpec

IMAGE = "orch/test-isolation:latest"
ROUNDS = 3
MEMORY = Path("/dev/shm")


def natively(folder: Path, tests: Sequence[str], lanes: int) -> float:
    """Seconds."""
    began = time.monotonic()
    words = ["xargs", "-n1", f"-P{lanes}", "sh"]
    subprocess.run(words, cwd=folder, input="\n".join(tests), text=True, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def one_lane(slot: FloorSlot, tests: Sequence[Assignment], folder: Path) -> None:
    """Run the tests, each let in at the end of the one before it."""
    stop, flights = StopFlag(), iter(tests)
    coming: list[tuple[Assignment, OutputReader, bytes]] = []

    def stage() -> None:
        test = next(flights, None) if len(coming) < 2 else None
        if test is not None:
            own = Path(tempfile.mkdtemp(dir=folder))
            coming.append((test, *slot.session.stage(test, folder=own, keep=True, first=False)))

    def follow() -> None:
        stage()  # where the test's end came before it was seen to begin
        if len(coming) > 1:
            slot.session.release(coming[1][2])

    stage()
    slot.session.release(coming[0][2])
    while coming:
        test, reading, _ = coming[0]
        run = None
        for event in slot.session.events(reading, test, stop=stop):
            if event is SlotEvent.STARTED:
                stage()
            elif event is SlotEvent.MEASURED:
                follow()
            elif not isinstance(event, SlotEvent):
                run = event
        assert run is not None
        if run.record is None or run.record.exit_code != 0 or run.record.leftovers:
            raise RuntimeError(f"{test.test.id}: {slot.state()}, {run}")
        if run.clean_counters:  # it left files, which are gone now
            slot.session.proceed()
        del coming[0]


def planned(folder: Path, profile: str) -> list[Assignment]:
    """A project's tests as orch would run them, each in a slot that takes them all."""
    config = load(folder / "profiles.yaml", {})
    tests = discover(config.suites, (), config.project_root, environ={}, notice=print)
    reused = replace(config.profiles[profile], reuse=len(tests) + 1)
    return [Assignment(run_id="0" * 32, test=test, profile=reused, reason="") for test in tests]


def through_slots(folder: Path, tests: Sequence[Assignment], lanes: int) -> float:
    """Seconds, without opening the containers."""
    with open_slots(folder, tests, lanes) as slots:
        shares = [tests[lane::lanes] for lane in range(lanes)]
        began = time.monotonic()
        with ThreadPoolExecutor(lanes) as threads:
            list(threads.map(one_lane, slots, shares, [slot.place for slot in slots]))
        return time.monotonic() - began


def unread(folder: Path, tests: Sequence[Assignment], lanes: int) -> float:
    """Seconds until the agents have ended, without opening the containers."""
    with open_slots(folder, tests, lanes) as slots:
        orders = [prepared(slot, tests[lane::lanes]) for lane, slot in enumerate(slots)]
        began = time.monotonic()
        processes = []
        for slot, lines in zip(slots, orders, strict=True):
            feeding, *reading = slot.ends()
            processes.append(subprocess.Popen(["cat", lines], stdout=feeding))
            processes += [subprocess.Popen(["cat"], stdin=end, stdout=subprocess.DEVNULL) for end in reading]
        if any(process.wait() for process in processes):
            raise RuntimeError("cat failed")
        seconds = time.monotonic() - began
        if any(slot.state().exit_code != 0 for slot in slots):
            raise RuntimeError("a test failed")
        return seconds


def prepared(slot: FloorSlot, tests: Sequence[Assignment]) -> Path:
    """All orders in files of their own; the lines that name them, in a file."""
    place = slot.place
    lines = [
        slot.order_in(place / f"o{number}", test, last=test is tests[-1]) for number, test in enumerate(tests)
    ]
    found = place / "lines"
    found.write_text("".join([*lines, "go\n"]))  # the last word lets the agent end
    return found


class FloorSlot(SlotContainer):
    """A slot whose orders may lie ready in any number."""

    def __init__(self, engine: ContainerEngine, spec: ContainerSpec, place: Path) -> None:
        """`place`: the folder of its streams."""
        super().__init__(engine, spec, streams_dir=place)
        self.place = place
        self._session: AgentSession | None = None

    @property
    def session(self) -> AgentSession:
        """The session, once it is open."""
        assert self._session is not None
        return self._session

    def open(self) -> AgentSession:
        """Start the container, and wait for its agent."""
        self._session = cast("AgentSession", super().open())
        return self._session

    def ends(self) -> tuple[int, ...]:
        """Descriptors of its streams on this side, the agent's input first; for programs that wait at them."""
        assert isinstance(self._channel, FifoChannel)
        found = (self._channel._in, *self._channel._inputs)
        for descriptor in found:
            os.set_blocking(descriptor, True)
        return found

    def order_in(self, path: Path, test: Assignment, *, last: bool) -> str:
        """Write an order: the line that names it."""
        reading, line = self.session.stage(test, folder=path.parent, keep=not last, first=False)
        reading.close()
        nonce, name = line.decode().split()
        text = (path.parent / name).read_text()
        path.write_text(text[: text.index("return\n") + len("return\n")])  # what is behind it is of an older order
        return f"{nonce} {path.name}\n"


@contextmanager
def open_slots(folder: Path, tests: Sequence[Assignment], lanes: int) -> Iterator[list[FloorSlot]]:
    """Containers whose agents wait."""
    engine = open_engine()
    config = load(folder / "profiles.yaml", {})
    image = engine.find_image(IMAGE)
    assert image is not None, "orch build --offline-base"
    image = prepared_image(engine, image)
    # in memory: files that are removed from a disk make the next contender slow (docs/design/coordinator.md)
    with tempfile.TemporaryDirectory(prefix="orch-floor-", dir=MEMORY) as place:
        slots: list[FloorSlot] = []
        owner = Owner(run_id="0" * 32, token=owner_token(), work_dir=place)
        try:
            for lane in range(lanes):
                streams = Path(place, f"slot-{lane}")
                name = f"orch-floor-{Path(place).name[-8:]}-{lane}"
                spec = hardening.container_spec(
                    tests[0].profile,
                    container_context(config, engine.info),
                    name=name,
                    image_id=image,
                    labels=helper_labels(owner, name),
                    streams_dir=streams,
                    cgroup_parent=None,
                )
                slots.append(FloorSlot(engine, spec, streams))
                slots[-1].open()
            yield slots
        finally:
            for slot in slots:
                slot.close()


def main(folder: Path, count: int) -> None:
    """Print the lines."""
    tests = planned(folder, "fast")[:count]
    names = [test.test.id.path for test in tests]
    for lanes in (1, 2):
        times: tuple[list[float], ...] = [], [], []
        cpu = 0.0
        for _ in range(ROUNDS):
            times[0].append(natively(folder, names, lanes))
            began = time.process_time()
            times[1].append(through_slots(folder, tests, lanes))
            cpu += time.process_time() - began
            times[2].append(unread(folder, tests, lanes))
        native, read, alone = (median(each) / len(names) * 1000 for each in times)
        figures = {"natively": native, "agent and reader": read, "agent without a reader": alone}
        words = (f"{name} {ms:.2f} ms ({ms / native:.3f})" for name, ms in figures.items())
        print(f"{lanes} at once: {', '.join(words)}, reader's CPU {cpu / ROUNDS / len(names) * 1000:.2f} ms")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 1000)
