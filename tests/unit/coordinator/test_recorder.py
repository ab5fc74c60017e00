import gc
import io
import json
import tracemalloc
from contextlib import redirect_stdout
from types import SimpleNamespace

import pytest

from orchestrator.config.loader import load_config
from orchestrator.coordinator.options import RunOptions
from orchestrator.coordinator.output.run_output import RunOutput
from orchestrator.coordinator.recorder import MOST_WAITING, ResultRecorder
from orchestrator.coordinator.run_folder import SIZE_NAME, RunFolder
from orchestrator.database.queries.runs import load_run
from orchestrator.database.store.store import Database
from orchestrator.model.evidence import OutputLog
from orchestrator.model.outcomes import Outcome
from orchestrator.model.results import TestResult, Verb
from orchestrator.model.runs import RunStatus
from orchestrator.model.violations import Severity, Violation, ViolationKind
from orchestrator.reports.run_summary import RunSummary
from orchestrator.scheduling.events import Finished, QueueDrained, Started
from tests.unit.database.database_examples import make_assignment, make_attempt, make_run


class Kept:
    """A run's folder, database and lines, and what keeps them."""

    def __init__(self, place, database):
        (place / "profiles.yaml").write_text("version: 1\n")
        self.run = make_run()
        self.database = database
        config = load_config(path=place / "profiles.yaml", start=place, env={}, overrides={})
        self.folder = RunFolder(place / ".orch", self.run)
        self.output = RunOutput(RunOptions(), config)
        self.progress = self.output.progress(self.folder, SimpleNamespace(latest=dict))
        self.lines = io.StringIO()
        self.progress._display._printer._stream = self.lines
        self.keeping = ResultRecorder(self.run.id, database=database, folder=self.folder, progress=self.progress)

    def events(self):
        """(kind, test) of each line so far."""
        told = map(json.loads, self.progress.events.path.read_text().splitlines())
        return [(line["event"], line.get("id") or line["test"]["id"]) for line in told]

    def summary(self, status):
        """The run has ended."""
        totals = self.keeping.totals
        return RunSummary(run=self.run, status=status, totals=totals, duration_seconds=1.0, exit_code=0)

    def test(self, name, **changes):
        """One that starts, ends, and has its result."""
        attempt = make_attempt(make_assignment(self.run, name), **{"violations": (), "cases": (), **changes})
        result = TestResult(attempts=(attempt,), outcome=attempt.outcome, verb=Verb.PASS)
        self.keeping.event(Started(assignment=attempt.assignment))
        self.keeping.event(Finished(attempt=attempt, will_retry=False))
        self.keeping.result(result)
        return result


@pytest.fixture
def kept(tmp_path):
    with Database.open(None, state_dir=tmp_path / ".orch") as database:
        made = Kept(tmp_path, database)
        plan = [make_assignment(made.run, f"t{n}") for n in range(100)]
        database.begin_run(made.run, plan)
        yield made
        made.progress.close()
        made.progress.events.close()


def test_a_case_that_does_not_exist_is_told_and_not_recorded(kept):
    """CASES A8."""
    kept.test("there")
    kept.test("absent", outcome=Outcome.SKIPPED, absent=True)
    kept.keeping.flush()
    assert [name for event, name in kept.events() if event == "test-finished"] == ["there", "absent"]
    assert [str(a.test_id) for a in load_run(kept.database, kept.run.id).attempts] == ["there"]
    assert kept.keeping.totals.absent_tests == 1


def test_what_has_come_is_told_in_its_order_once_nothing_more_waits(kept):
    for name in ("a", "b"):
        kept.test(name)
    assert kept.events() == []
    assert len(kept.progress.running_lines()) == 2, "what runs is known at once"
    kept.keeping.event(QueueDrained())
    kinds = ("test-started", "attempt-finished", "test-finished")
    assert kept.events() == [(kind, name) for name in ("a", "b") for kind in kinds]
    lines = kept.lines.getvalue().splitlines()
    assert [line.split()[0] for line in lines if "PASS" in line] == ["PASS", "PASS"]
    assert kept.progress.running_lines() == []
    kept.keeping.event(QueueDrained())
    assert len(kept.events()) == 6


def test_what_never_stops_coming_is_told_all_the_same(kept):
    for number in range(MOST_WAITING):
        kept.test(f"t{number}")
    assert len(kept.events()) > 2 * MOST_WAITING


def test_results_outlive_a_line_that_cannot_be_written(kept):
    class Closed(io.StringIO):
        def write(self, _text):
            raise BrokenPipeError

    kept.test("a")
    kept.progress._display._printer._stream = Closed()
    with pytest.raises(BrokenPipeError):
        kept.keeping.flush()
    assert kept.keeping.totals.counts["passed"] == 1
    assert ("test-finished", "a") in kept.events()


def test_the_end_is_told_after_all_tests(kept):
    kept.test("a")
    kept.keeping.flush()
    with redirect_stdout(io.StringIO()):
        kept.progress.summary(kept.summary(RunStatus.FINISHED))
    last = json.loads(kept.progress.events.path.read_text().splitlines()[-1])
    assert last["event"] == "run-finished"


def test_the_size_of_the_folder_is_noted_when_a_run_has_finished(kept):
    kept.test("a", folder=None)
    kept.keeping.flush()
    with redirect_stdout(io.StringIO()):
        kept.output.summary(kept.summary(RunStatus.INTERRUPTED))
        assert not (kept.folder.path / SIZE_NAME).exists(), "what was stopped may have left more than was told"
        kept.progress.events._file = kept.progress.events.path.open("ab", buffering=0)
        kept.output.summary(kept.summary(RunStatus.FINISHED))
    sizes = [p.stat().st_size for p in kept.folder.path.iterdir() if p.is_file() and p.name != SIZE_NAME]
    assert int((kept.folder.path / SIZE_NAME).read_text()) == sum(sizes) > 1000


def test_memory_does_not_grow_with_the_tests_that_have_passed(kept):
    """Batches of tests that print, have a notice and all differ; the first one fills lists and caches."""
    notice = Violation(
        kind=ViolationKind.OVERSIZED,
        severity=Severity.NOTICE,
        measured=1.0,
        limit=2.0,
        unit="bytes",
        message="big",
    )
    sizes = []
    tracemalloc.start()
    try:
        for batch in range(4):
            for number in range(300):
                printed = f"{number}\n".encode() * 50
                log = OutputLog(path=None, total_bytes=len(printed), kept_bytes=len(printed), tail=printed)
                kept.test(f"test_{batch}_{number}", folder=None, stdout=log, samples=(), violations=(notice,))
            kept.keeping.flush()
            with kept.database.reading():  # stores what waits
                kept.lines.seek(0)
            kept.lines.truncate()
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert kept.keeping.totals.counts["passed"] == 1200
    grown = (sizes[-1] - sizes[0]) / 900
    assert grown < 150, f"{grown:.0f} bytes a test; each result is ten times as much"
