"""`orch run` as a user starts it, on a project of the benchmark's, each with a state folder of its own."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.floor import through_slots
from bench.overhead.comparing import RowError, Timing
from bench.overhead.process import run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.overhead.process import Ended
    from orchestrator.model.tests import Assignment

REPOSITORY = Path(__file__).parents[2]


class Orch:
    """One contender: a project, a state folder, and options of `orch run`."""

    def __init__(self, name: str, project: Path, state: Path, *options: str, tests: int) -> None:
        """`tests`: how many must have passed, each in its first attempt or not."""
        self.name = name
        self._project = project
        self._state = state
        self._options = options
        self._tests = tests
        self.last: dict[str, Any] = {}
        """run.json of the newest run."""

    def warm_up(self) -> dict[str, Any]:
        """A run that is not measured: builds images, calibrates, makes history. Its run.json."""
        print(f"{self.name}: warming up", file=sys.stderr, flush=True)
        self._once("--offline-base")
        return self.last

    def measure(self) -> Timing:
        """A measured run. RowError: not every test passed."""
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
        """run.json of the one run in the state folder; its history stays, its files are moved away. They are not
        removed: for a minute or more ext4 looks at each inode that was freed before it makes a new one, which made
        a run of 1,000 tests right after it take 1.5 s more of CPU time.
        """
        found = list((self._state / "runs").glob("*/run.json"))
        if len(found) != 1:
            raise RowError(f"{self.name}: {len(found)} run.json in its state folder")
        document: dict[str, Any] = json.loads(found[0].read_bytes())
        (self._state / "runs").rename(self._state / f"runs-{document['run']['id']}")
        return document


def check(document: dict[str, Any], tests: int) -> None:
    """RowError unless each test passed and none is missing."""
    outcomes = Counter(test["outcome"] for test in document["tests"])
    if outcomes != Counter({"passed": tests}):
        raise RowError(f"orch: {tests} tests were to pass; it says {dict(outcomes)}")
    if document["ledger"]["left"]:
        raise RowError(f"orch left {document['ledger']['left']}")


def slot_use(document: dict[str, Any]) -> dict[str, int]:
    """How many tests ran in a slot that had run another before, how many in a forked process, how many twice."""
    slots = [test.get("slot") or {} for test in document["tests"]]
    return {
        "reused": sum((slot.get("position") or 1) > 1 for slot in slots),
        "forked": sum(slot.get("launch") == "forked" for slot in slots),
        "run_again": sum(len(test["attempts"]) > 1 for test in document["tests"]),
    }


def case_outcomes(document: dict[str, Any]) -> dict[str, int]:
    """Outcome -> number of cases."""
    return dict(Counter(case["outcome"] for test in document["tests"] for case in test["cases"]))


def agent_alone(name: str, project: Path, tests: Sequence[Assignment], jobs: int) -> Timing:
    """`tests` through open slots by orch's agent, streams and reader: without its start, verdicts, figures, events
    and database.
    """
    load = os.getloadavg()[0]
    return Timing(contender=name, round=0, wall_seconds=through_slots(project, tests, jobs), load=load)
