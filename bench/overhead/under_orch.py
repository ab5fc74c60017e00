"""Run `orch run` as a user does, on a project of the benchmark, each contender with its own state folder."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.environment import bench_environment, run_in_lane
from bench.overhead.comparing import RowError, Timing
from bench.overhead.process import run
from orchestrator.model.tests import Assignment
from orchestrator.suites.discover import discover

if TYPE_CHECKING:
    from bench.overhead.process import Ended

REPOSITORY = Path(__file__).parents[2]
MEMORY = "/dev/shm"
"""Files removed from a disk would make the next contender slow (docs/design/coordinator/cost.md)."""


class Orch:
    """A contender: a project, a state folder, and options of `orch run`."""

    def __init__(self, name: str, project: Path, state: Path, *options: str, tests: int) -> None:
        """Create a contender whose runs must have this number of passed tests."""
        self.name = name
        self._project = project
        self._state = state
        self._options = options
        self._tests = tests
        self.last: dict[str, Any] = {}
        """The run.json of the last run."""

    def warm_up(self) -> dict[str, Any]:
        """Do a run that is not measured, which builds images, calibrates and makes history; return its
        run.json.
        """
        print(f"{self.name}: warming up", file=sys.stderr, flush=True)
        self._once("--offline-base")
        return self.last

    def measure(self) -> Timing:
        """Do a run and return its timing. Raises RowError if a test did not pass."""
        ended = self._once()
        run_fields, ledger = self.last["run"], self.last["ledger"]
        return ended.timing(
            self.name,
            orch_seconds=run_fields["duration_seconds"],
            containers=ledger["created"],
            **slot_use(self.last),
        )

    def _once(self, *more: str) -> Ended:
        words = [sys.executable, "-m", "orchestrator", "run", *self._options, *more]
        environment = {"PYTHONPATH": str(REPOSITORY), "ORCH_STATE_DIR": str(self._state)}
        ended = run(words, folder=self._project, env=environment)
        self.last = self._document()
        check(self.last, self._tests)
        return ended

    def _document(self) -> dict[str, Any]:
        """Return the run.json of the only run in the state folder, and move the run's files away; its history
        stays.

        The files are not removed: for a minute or more ext4 examines each freed inode before it creates a new one,
        which cost a run of 1,000 tests right afterwards 1.5 s of CPU time.
        """
        found = list((self._state / "runs").glob("*/run.json"))
        if len(found) != 1:
            raise RowError(f"{self.name}: {len(found)} run.json in its state folder")
        document: dict[str, Any] = json.loads(found[0].read_bytes())
        (self._state / "runs").rename(self._state / f"runs-{document['run']['id']}")
        return document


def check(document: dict[str, Any], tests: int) -> None:
    """Raise RowError unless this number of tests passed and nothing was left behind."""
    outcomes = Counter(test["outcome"] for test in document["tests"])
    if outcomes != Counter({"passed": tests}):
        raise RowError(f"orch: {tests} tests were to pass; it says {dict(outcomes)}")
    if document["ledger"]["left"]:
        raise RowError(f"orch left {document['ledger']['left']}")


def slot_use(document: dict[str, Any]) -> dict[str, int]:
    """Return the numbers of tests that ran in a used slot, in a forked process, and more than once."""
    slots = [test.get("slot") or {} for test in document["tests"]]
    return {
        "reused": sum((slot.get("position") or 1) > 1 for slot in slots),
        "forked": sum(slot.get("launch") == "forked" for slot in slots),
        "run_again": sum(len(test["attempts"]) > 1 for test in document["tests"]),
    }


def case_outcomes(document: dict[str, Any]) -> dict[str, int]:
    """Return outcome -> number of cases."""
    return dict(Counter(case["outcome"] for test in document["tests"] for case in test["cases"]))


def executor_alone(name: str, project: Path, profile: str, jobs: int) -> Timing:
    """Run a project's tests by orch's executor, without its start, scheduler, verdicts, events and database.

    The containers are opened, each with one test, before the time is taken.
    """
    with (
        bench_environment(project) as environment,
        tempfile.TemporaryDirectory(dir=MEMORY) as folder,
        ThreadPoolExecutor(jobs) as threads,
        ExitStack() as lanes_open,
    ):
        config = environment.config
        tests = discover(config.suites, (), config.project_root, environ={}, notice=print)
        reused = replace(config.profiles[profile], reuse=len(tests) + 1)
        plan = [Assignment(run_id=environment.run_id, test=test, profile=reused, reason="") for test in tests]
        lanes = [lanes_open.enter_context(closing(environment.executor.lane())) for _ in range(jobs)]
        shares = [plan[job::jobs] for job in range(jobs)]
        places = [Path(folder, str(job)) for job in range(jobs)]
        for place in places:
            place.mkdir()
        first = [[replace(share[0], repetition=2)] for share in shares]
        list(threads.map(run_in_lane, lanes, first, places))
        load, began = os.getloadavg()[0], time.monotonic()
        list(threads.map(run_in_lane, lanes, shares, places))
        return Timing(contender=name, round=0, wall_seconds=time.monotonic() - began, load=load)
