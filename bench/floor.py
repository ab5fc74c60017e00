"""What reused slots cost without orch's bookkeeping: agent, streams and reader alone, beside `xargs`.

    python -m bench.floor FOLDER [TESTS]      FOLDER: a project of shell tests

Of the difference between this and `orch run`, all is verdicts, figures, events and the database. One line for each
number of lanes, natively and through slots in turn, in milliseconds a test.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from orchestrator.commands.session import load, surroundings
from orchestrator.engine import hardening
from orchestrator.engine.docker import open_engine
from orchestrator.engine.labels import Owner, labels_of_helper
from orchestrator.engine.slot import Slot, Watch
from orchestrator.measure.processes import owner_token
from orchestrator.model import Assignment
from orchestrator.stopping import StopFlag
from orchestrator.suites.discover import discover

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.engine.reading import Reading

IMAGE = "orch/test-isolation:latest"
ROUNDS = 3
MEMORY = Path("/dev/shm")


def natively(folder: Path, tests: Sequence[str], lanes: int) -> float:
    """Seconds."""
    began = time.monotonic()
    words = ["xargs", "-n1", f"-P{lanes}", "sh"]
    subprocess.run(words, cwd=folder, input="\n".join(tests), text=True, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def one_lane(slot: Slot, tests: Sequence[Assignment], folder: Path) -> None:
    """Run the tests, each let in at the end of the one before it."""
    stop, flights = StopFlag(), iter(tests)
    coming: list[tuple[Assignment, Reading, bytes]] = []

    def stage() -> None:
        test = next(flights, None) if len(coming) < 2 else None
        if test is not None:
            own = Path(tempfile.mkdtemp(dir=folder))
            coming.append((test, *slot.stage(test, folder=own, keep=True, first=False)))

    def follow() -> None:
        stage()  # where the test's end came before it was seen to begin
        if len(coming) > 1:
            slot.let_in(coming[1][2])

    stage()
    slot.let_in(coming[0][2])
    while coming:
        test, reading, _ = coming[0]
        watch = Watch(begun=stage, measured=follow)
        run = slot.read(reading, test, stop=stop, watch=watch)
        if run.record is None or run.record.exit_code != 0 or run.record.leftovers:
            raise RuntimeError(f"{test.test.id}: {slot.state()}, {run}")
        if run.clean_counters:  # it left files, which are gone now
            slot.go()
        del coming[0]


def planned(folder: Path, profile: str) -> list[Assignment]:
    """A project's tests as orch would run them, each in a slot that takes them all."""
    config = load(folder / "profiles.yaml", {})
    tests = discover(config.suites, (), config.project_root, environ={}, notice=print)
    reused = replace(config.profiles[profile], reuse=len(tests) + 1)
    return [Assignment(run_id="0" * 32, test=test, profile=reused, reason="") for test in tests]


def through_slots(folder: Path, tests: Sequence[Assignment], lanes: int) -> float:
    """Seconds, without opening the containers."""
    engine = open_engine()
    config = load(folder / "profiles.yaml", {})
    image = engine.find_image(IMAGE)
    assert image is not None, "orch build --offline-base"
    # in memory: files that are removed from a disk make the next contender slow (docs/design/coordinator.md)
    with tempfile.TemporaryDirectory(prefix="orch-floor-", dir=MEMORY) as place:
        slots: list[Slot] = []
        owner = Owner(run_id="0" * 32, token=owner_token(), place=place)
        try:
            for lane in range(lanes):
                streams = Path(place, f"slot-{lane}")
                name = f"orch-floor-{Path(place).name[-8:]}-{lane}"
                spec = hardening.container_spec(
                    tests[0].profile,
                    surroundings(config, engine.info),
                    name=name,
                    image_id=image,
                    labels=labels_of_helper(owner, name),
                    streams_dir=streams,
                    cgroup_parent=None,
                )
                slots.append(Slot(engine, spec, streams_dir=streams))
                slots[-1].open()
            began = time.monotonic()
            with ThreadPoolExecutor(lanes) as threads:
                shares = [tests[lane::lanes] for lane in range(lanes)]
                list(threads.map(one_lane, slots, shares, [Path(place)] * lanes))
            return time.monotonic() - began
        finally:
            for slot in slots:
                slot.close()


def main(folder: Path, count: int) -> None:
    """Print the lines."""
    tests = planned(folder, "fast")[:count]
    names = [test.test.id.path for test in tests]
    for lanes in (1, 2):
        times: tuple[list[float], list[float]] = [], []
        cpu = time.process_time()
        for _ in range(ROUNDS):
            times[0].append(natively(folder, names, lanes))
            times[1].append(through_slots(folder, tests, lanes))
        cpu = (time.process_time() - cpu) / ROUNDS / len(names) * 1000
        native, slots = (median(each) / len(names) * 1000 for each in times)
        print(f"{lanes} at once: natively {native:.2f} ms, slots {slots:.2f} ms, ratio {slots / native:.3f}, "
              f"reader's CPU {cpu:.2f} ms")  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 1000)
