"""JSON documents of a run: `run --format json`, run.json, the lines of `--format jsonl`. The version is `schema`
1.

A figure that was not measured is null. `run.schema.json` in orchestrator/reports describes the document.
"""

from __future__ import annotations

import errno
import json
from collections import deque
from dataclasses import fields
from importlib import resources
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.files import write_atomically
from orchestrator.model.usage import Source, Usage
from orchestrator.redaction import redact
from orchestrator.reports.json_encoding import fields_of, plain, to_json, to_json_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from orchestrator.model.evidence import OutputLog
    from orchestrator.model.results import Attempt, TestResult
    from orchestrator.model.runs import Run
    from orchestrator.model.tests import Assignment
    from orchestrator.reports.json_encoding import Document
    from orchestrator.reports.run_summary import RunSummary

SCHEMA_VERSION = 1

_PRETTY_TESTS = 20
"""Documents with more tests are not indented but have a line for each test: half the size, and ten times as fast
(an indented test takes 2 ms).
"""
_HEADLINE_FIGURES = ("cpu_seconds", "memory_peak_bytes", "pids_peak", "oom_kills")


def run_schema() -> Document:
    """Return the JSON Schema of run.json."""
    text = resources.files("orchestrator.reports").joinpath("run.schema.json").read_text(encoding="utf-8")
    schema: Document = json.loads(text)
    return schema


def ledger_document(summary: RunSummary) -> Document:
    """Return the counts of containers that were expected, created and removed, and the names of objects that are
    left or unexpected.
    """
    ledger = summary.ledger
    return {
        "expected": ledger.expected_containers,
        "created": ledger.created_containers,
        "removed": ledger.removed_containers,
        "left": list(ledger.left),
        "unexpected": list(ledger.unexpected),
    }


def _run_fields(run: Run) -> Document:
    return {
        "id": run.id,
        "started_at": run.started_at,
        "argv": [redact(argument) for argument in run.argv],
        "project": run.project,
        "project_id": run.project_id,
        "config_digest": run.config_digest,
        "orch_version": run.orch_version,
        "engine": {**fields_of(run.engine), "address": redact(run.engine.address)},
        "host": run.host,
        "images": dict(run.images),
        "revision": run.revision,
        "branch": run.branch,
        "dirty": run.dirty,
        "fresh": run.fresh,
    }


def _end_fields(summary: RunSummary) -> Document:
    return {
        "status": summary.status,
        "duration_seconds": summary.duration_seconds,
        "exit_code": summary.exit_code,
        "counts": dict(summary.counts),
        "reused_tests": summary.totals.reused_tests,
        "not_run": summary.not_run,
        "left_out": [{"path": left.path, "reason": left.reason} for left in summary.left_out],
    }


def result_document(result: TestResult) -> Document:
    """Return an element of the `tests` list: the final attempt of a test, and all its attempts in `attempts`."""
    document: Document = plain(_result(result))
    return document


def _result(result: TestResult) -> Document:
    return {
        **_result_head(result),
        **_attempt_body(result.final),
        "attempts": [{**_attempt_head(attempt), **_attempt_body(attempt)} for attempt in result.attempts],
    }


def result_text(result: TestResult) -> str:
    """Return `result_document` as ASCII JSON on one line."""
    attempts = ",".join(map(attempt_text, result.attempts))
    final = _ATTEMPT_TEXTS.of(result.final).body
    return f'{to_json_line(_result_head(result))[:-1]},{final[:-1]},"attempts":[{attempts}]}}'


def _result_head(result: TestResult) -> Document:
    assignment = result.final.assignment
    return {
        "id": str(result.test.id),
        "path": result.test.id.path,
        "case": result.test.id.case,
        "suite": result.test.suite,
        "markers": result.test.markers,
        "repetition": assignment.repetition,
        "outcome": result.outcome,
        "verb": result.verb,
        "flaky": result.flaky,
        "profile": assignment.profile.name,
        "reason": assignment.reason,
    }


def attempt_document(attempt: Attempt, *, samples: bool = False) -> Document:
    """Return an attempt with its usage; with `samples` also its time series, for metrics.json."""
    series = {"samples": attempt.evidence.samples} if samples else {}
    document: Document = plain({**_attempt_head(attempt), **_attempt_body(attempt), **series})
    return document


def attempt_text(attempt: Attempt, *, samples: bool = False) -> str:
    """Return `attempt_document` as ASCII JSON on one line."""
    text = "".join(_ATTEMPT_TEXTS.of(attempt))
    return f'{text[:-1]},"samples":{to_json_line(attempt.evidence.samples)}}}' if samples else text


def _attempt_head(attempt: Attempt) -> Document:
    return {
        "attempt": attempt.assignment.attempt,
        "id": attempt.id,
        "profile": attempt.assignment.profile.name,
        "outcome": attempt.outcome,
    }


class _AttemptText(NamedTuple):
    """JSON text of an attempt in two parts, which together are an object."""

    head: str
    body: str


class _AttemptTextCache:
    """Cache of the JSON texts of the latest attempts: two threads need the text of an attempt four times while its
    test ends.
    """

    def __init__(self, number: int) -> None:
        self._recent: deque[tuple[Attempt, _AttemptText]] = deque(maxlen=number)

    def of(self, attempt: Attempt) -> _AttemptText:
        for known, text in tuple(self._recent):
            if known is attempt:
                return text
        text = _AttemptText(
            f"{to_json_line(_attempt_head(attempt))[:-1]},", to_json_line(_attempt_body(attempt))[1:]
        )
        self._recent.append((attempt, text))
        return text


_ATTEMPT_TEXTS = _AttemptTextCache(8)
"""A small number, because the cache keeps the attempts alive, and an attempt can have 128 KiB of output."""


def _attempt_body(attempt: Attempt) -> Document:
    """Return the fields that a test and each of its attempts have in common."""
    evidence = attempt.evidence
    timings = evidence.timings
    return {
        "message": attempt.message,
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
        "started_at": evidence.started_at,
        "duration_seconds": timings.test_seconds,
        "queue_seconds": timings.queue_seconds,
        "create_seconds": timings.create_seconds,
        "start_seconds": timings.start_seconds,
        "teardown_seconds": timings.teardown_seconds,
        "cpu_waited_seconds": evidence.cpu_waited_seconds,
        "starved": evidence.starved,
        "clamped": attempt.assignment.clamped,
        "violations": attempt.violations,
        "cases": attempt.cases,
        "witnesses": attempt.witnesses,
        "slot": evidence.slot,
        "leftovers": evidence.agent.leftovers if evidence.agent else (),
        "leaked_objects": evidence.leaked_objects,
        "stdout": _log_document(evidence.stdout),
        "stderr": _log_document(evidence.stderr),
        "outputs": evidence.outputs,
        "outputs_notes": evidence.outputs_notes,
        "folder": attempt.folder,
        "usage": _usage(evidence.usage),
        "limits": attempt.assignment.profile.limits,
        "attestation": evidence.attestation,
    }


def _usage(usage: Usage) -> Document:
    """Return all figures. `source` is the weakest source among the main figures, `sources` has that of each
    figure.
    """
    return {**dict(zip(_USAGE, _USAGE_OF(usage), strict=True)), "source": _weakest(usage)}


_USAGE = tuple(field.name for field in fields(Usage))
_USAGE_OF = attrgetter(*_USAGE)


def _weakest(usage: Usage) -> Source | None:
    used = [usage.sources[name] for name in _HEADLINE_FIGURES if name in usage.sources]
    return max(used, key=_RANKING.index) if used else None


_RANKING = list(Source)


def _log_document(log: OutputLog) -> Document:
    return {
        "path": log.path,
        "total_bytes": log.total_bytes,
        "kept_bytes": log.kept_bytes,
        "truncated": log.truncated,
    }


def write_run_document(summary: RunSummary, events: Path, path: Path) -> None:
    """Write run.json atomically. Raises OSError."""
    write_atomically(path, run_pieces(summary, events))


def run_pieces(summary: RunSummary, events: Path) -> Iterator[bytes]:
    """Yield `{"schema": 1, "run": {…}, "tests": [{…}], "ledger": {…}}` as ASCII JSON with a newline, indented if
    it is small. Tests are copied one by one from the run's own `events`, so that they are never all in memory.
    Raises OSError if the file cannot be read or lacks a test.
    """
    number = summary.totals.tests
    head = {"schema": SCHEMA_VERSION, "run": {**_run_fields(summary.run), **_end_fields(summary)}}
    tests, ledger = _finished_tests(events, number), ledger_document(summary)
    if number <= _PRETTY_TESTS:
        whole = {**head, "tests": [json.loads(text) for text in tests], "ledger": ledger}
        yield f"{to_json(whole)}\n".encode("ascii")
        return
    yield f'{to_json_line(head)[:-1]},"tests":[\n'.encode("ascii")
    yield next(tests)
    for text in tests:
        yield b",\n"
        yield text
    yield f'\n],"ledger":{to_json_line(ledger)}}}\n'.encode("ascii")


def _finished_tests(events: Path, number: int) -> Iterator[bytes]:
    """Yield the JSON texts of the `number` finished tests in the file of events. Raises OSError if there are more
    or fewer.
    """
    found = 0
    start, end = len(_TEST_FINISHED), len(b"}\n")
    with events.open("rb") as lines:
        for line in lines:
            if line.startswith(_TEST_FINISHED) and line.endswith(b"}\n"):
                found += 1
                yield line[start:-end]
    if found != number:
        raise OSError(errno.EIO, f"{events.name} has {found} of {number} tests: something has changed it")


_TEST_FINISHED = b'{"event":"test-finished","test":'


# ---------------------------------------------------------------- events


# Each function returns a line of jsonl without its newline, in ASCII, so that no character inside ends the line.


def run_started_line(run: Run, plan: Sequence[Assignment]) -> str:
    """Return the first line: `{"event": "run-started", "schema": 1, "run": {…}, "planned": N}`."""
    return to_json_line(
        {"event": "run-started", "schema": SCHEMA_VERSION, "run": _run_fields(run), "planned": len(plan)}
    )


def test_started_line(assignment: Assignment) -> str:
    """Return the line for a test that was started in a container."""
    return to_json_line({"event": "test-started", **_assignment_fields(assignment)})


def attempt_finished_line(attempt: Attempt, *, will_retry: bool) -> str:
    """Return the line for an attempt that has ended."""
    head = {
        "event": "attempt-finished",
        **_assignment_fields(attempt.assignment),
        "will_retry": will_retry,
    }
    return f'{to_json_line(head)[:-1]},"result":{attempt_text(attempt)}}}'


def test_finished_line(result: TestResult) -> str:
    """Return the line for a final result: `{"event": "test-finished", "test": {…as in the document…}}`."""
    return f"{_TEST_FINISHED.decode()}{result_text(result)}}}"


def run_finished_line(summary: RunSummary) -> str:
    """Return the last line, with the same `run` and `ledger` as at the end of the document."""
    return to_json_line(
        {
            "event": "run-finished",
            "run": {"id": summary.run.id, **_end_fields(summary)},
            "ledger": ledger_document(summary),
        }
    )


def _assignment_fields(assignment: Assignment) -> Document:
    return {
        "id": str(assignment.test.id),
        "profile": assignment.profile.name,
        "reason": assignment.reason,
        "attempt": assignment.attempt,
        "repetition": assignment.repetition,
    }
