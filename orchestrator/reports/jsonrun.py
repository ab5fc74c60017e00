"""A run as JSON: `run --format json`, run.json, the lines of `--format jsonl`. Versioned: `schema` is 1.

A figure that was not measured is null. `run.schema.json` beside this module describes the document.
"""

from __future__ import annotations

import errno
import json
import math
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from functools import cache, lru_cache
from importlib import resources
from itertools import groupby
from operator import attrgetter
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.model import Source, Usage
from orchestrator.reports.files import write_atomically
from orchestrator.reports.text import redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from _typeshed import DataclassInstance

    from orchestrator.model import Assignment, Attempt, Attestation, Limits, OutputLog, Run, TestResult
    from orchestrator.reports.digest import RunSummary

SCHEMA_VERSION = 1

_SURROGATE = re.compile("[\ud800-\udfff]")
"""What Python makes of undecodable bytes in file names and arguments."""

Document = dict[str, Any]

_SCALARS = (str, int, float, bool, type(None))
_JSON_TYPES = (dict, list, tuple, *_SCALARS)
_PRETTY_TESTS = 20
"""More tests than that are not indented but have a line each: half the size, ten times as fast (2 ms a test)."""
_HEADLINE_FIGURES = ("cpu_seconds", "memory_peak_bytes", "pids_peak", "oom_kills")


def run_schema() -> Document:
    """The JSON Schema of run.json."""
    text = resources.files("orchestrator.reports").joinpath("run.schema.json").read_text(encoding="utf-8")
    schema: Document = json.loads(text)
    return schema


def to_json(document: Mapping[str, Any], *, indent: int | None = 2) -> str:
    """ASCII JSON of plain values and of the model's enums, paths and times; NaN and infinity become null."""
    try:
        text = _SURROGATE_ESCAPE if indent is None else _indented(document, " " * indent, "\n")
    except (TypeError, ValueError):
        text = _SURROGATE_ESCAPE
    return json.dumps(plain(document), indent=indent, allow_nan=False) if _SURROGATE_ESCAPE in text else text


def _indented(value: Any, indent: str, outer: str) -> str:
    """As `json.dumps` with an indent, for which that leaves its encoder in C: here C writes all that has nothing
    nested in it, with new lines in its separator. `outer`: how the line begins that the value ends on.
    """
    if type(value) not in _JSON_TYPES:
        value = plain(value)
    if not value or type(value) in _SCALARS:
        return _ENCODER.encode(value)
    inner = outer + indent
    encode = _separated(f",{inner}")
    if isinstance(value, dict):
        return f"{{{inner}{f',{inner}'.join(_members(value, encode, indent, inner))}{outer}}}"
    return f"[{inner}{f',{inner}'.join(_items(value, encode, indent, inner))}{outer}]"


def _members(value: Document, encode: Callable[[object], str], indent: str, inner: str) -> Iterator[str]:
    for is_flat, members in groupby(value.items(), key=lambda member: type(member[1]) in _SCALARS):
        if is_flat:
            yield encode(dict(members))[1:-1]
        else:
            for key, item in members:
                yield f"{encode({key: 0})[1:-2]}{_indented(item, indent, inner)}"


def _items(value: Sequence[object], encode: Callable[[object], str], indent: str, inner: str) -> Iterator[str]:
    for is_flat, items in groupby(value, key=lambda item: type(item) in _SCALARS):
        if is_flat:
            yield encode(list(items))[1:-1]
        else:
            for item in items:
                yield _indented(item, indent, inner)


@cache
def _separated(separator: str) -> Callable[[object], str]:
    return json.JSONEncoder(allow_nan=False, check_circular=False, separators=(separator, ": ")).encode


def compact(document: object) -> str:
    """As `to_json` without an indent, by the C encoder, which takes the model's values as they are: 15 times as
    fast. What it would say differently (NaN, half a surrogate pair) is left to `plain`.
    """
    try:
        text = _ENCODER.encode(document)
    except ValueError:
        text = _SURROGATE_ESCAPE
    return json.dumps(plain(document), allow_nan=False) if _SURROGATE_ESCAPE in text else text


_SURROGATE_ESCAPE = "\\ud"


def _encodable(value: object) -> object:
    """One step towards JSON, of a value that the C encoder does not know."""
    kind = type(value)
    if is_dataclass(kind):
        names = _field_names(kind)
        return dict(zip(names, _getter(kind)(value), strict=True))
    if isinstance(value, Mapping):
        return dict(value)
    return plain(value)


_ENCODER = json.JSONEncoder(allow_nan=False, check_circular=False, default=_encodable)


def plain(value: object) -> Any:
    """`value` with nothing in it that JSON cannot say; dataclasses become objects of their fields.

    Text from undecodable bytes gets U+FFFD. Raises TypeError for a type that reports do not know.
    """
    if type(value) in _SCALARS:  # most values are; 10,000 tests have a million of them
        return _plain_scalar(value)
    if isinstance(value, Enum):
        value = value.value
    elif is_dataclass(value) and not isinstance(value, type):
        value = _fields(value)
    if isinstance(value, Mapping):
        return {_plain_scalar(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(plain, value))
    return _plain_scalar(value)


def _plain_scalar(value: object) -> str | float | int | None:
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (str, bytes, PurePath)):
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        return text if text.isascii() else _SURROGATE.sub("\ufffd", text)
    raise TypeError(f"no JSON for {type(value).__name__}")


def _fields(value: DataclassInstance) -> Document:
    return {name: getattr(value, name) for name in _field_names(type(value))}


@cache
def _getter(kind: type[DataclassInstance]) -> Callable[[object], tuple[object, ...]]:
    """The fields' values; one that has no tuple to give for a single field is made to."""
    names = _field_names(kind)
    return attrgetter(*names) if len(names) > 1 else lambda value: tuple(getattr(value, name) for name in names)


@cache
def _field_names(kind: type[DataclassInstance]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def ledger_document(summary: RunSummary) -> Document:
    """What was expected, created, removed, and what is left."""
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
        "argv": [redacted(argument) for argument in run.argv],
        "project": run.project,
        "config_digest": run.config_digest,
        "orch_version": run.orch_version,
        "engine": {**_fields(run.engine), "address": redacted(run.engine.address)},
        "host": run.host,
        "images": dict(run.images),
        "revision": run.revision,
        "branch": run.branch,
        "dirty": run.dirty,
    }


def _end_fields(summary: RunSummary) -> Document:
    return {
        "status": summary.status,
        "duration_seconds": summary.duration_seconds,
        "exit_code": summary.exit_code,
        "counts": dict(summary.counts),
        "not_run": summary.not_run,
    }


def result_document(result: TestResult) -> Document:
    """One test of the `tests` list: its deciding attempt, and all attempts in `attempts`."""
    document: Document = plain(_result(result))
    return document


def _result(result: TestResult) -> Document:
    return {
        **_result_head(result),
        **_attempt_body(result.final),
        "attempts": [{**_attempt_head(attempt), **_attempt_body(attempt)} for attempt in result.attempts],
    }


def result_text(result: TestResult) -> str:
    """`result_document` as ASCII JSON on one line."""
    attempts = ", ".join(map(attempt_text, result.attempts))
    final = _TEXTS.of(result.final).body
    return f'{compact(_result_head(result))[:-1]}, {final[:-1]}, "attempts": [{attempts}]}}'


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
    """One attempt with its own usage; with its time series too for metrics.json."""
    series = {"samples": attempt.evidence.samples} if samples else {}
    document: Document = plain({**_attempt_head(attempt), **_attempt_body(attempt), **series})
    return document


def attempt_text(attempt: Attempt, *, samples: bool = False) -> str:
    """`attempt_document` as ASCII JSON on one line."""
    text = "".join(_TEXTS.of(attempt))
    return f'{text[:-1]}, "samples": {compact(attempt.evidence.samples)}}}' if samples else text


def _attempt_head(attempt: Attempt) -> Document:
    return {
        "attempt": attempt.assignment.attempt,
        "id": attempt.id,
        "profile": attempt.assignment.profile.name,
        "outcome": attempt.outcome,
    }


class _Text(NamedTuple):
    """Of an attempt, as JSON; both parts together are an object."""

    head: str
    body: str


class _Texts:
    """Of the latest attempts: each is written four times while a test ends, by two threads."""

    def __init__(self, number: int) -> None:
        self._recent: deque[tuple[Attempt, _Text]] = deque(maxlen=number)

    def of(self, attempt: Attempt) -> _Text:
        for known, text in tuple(self._recent):
            if known is attempt:
                return text
        text = _Text(f"{compact(_attempt_head(attempt))[:-1]}, ", _body_text(attempt))
        self._recent.append((attempt, text))
        return text


_TEXTS = _Texts(8)
"""Few, because what is remembered is kept alive: an attempt may have 128 KiB of output."""


def _attempt_body(attempt: Attempt) -> Document:
    """What a test and each of its attempts have in common."""
    return {
        **_own_part(attempt),
        "usage": _usage(attempt.evidence.usage),
        "limits": attempt.assignment.profile.limits,
        "attestation": attempt.evidence.attestation,
    }


def _body_text(attempt: Attempt) -> str:
    """`_attempt_body` as JSON without its opening brace; the text of what is the same for many tests is made once
    for them all, the rest at once.
    """
    evidence = attempt.evidence
    usage = evidence.usage
    origins = _origins_text(
        tuple(usage.sources.items()), tuple(usage.missing.items()), tuple(usage.overheads.items())
    )
    figures = dict(zip(_OWN_USAGE, _OWN_USAGE_OF(usage), strict=True))
    figures["source"] = _weakest(usage)
    own = _own_part(attempt)
    own["usage"] = figures
    return (
        f"{compact(own)[1:-2]}, {origins}}}, "
        f'"limits": {_shared_text(attempt.assignment.profile.limits)}, '
        f'"attestation": {_shared_text(evidence.attestation)}}}'
    )


_SHARED_USAGE = ("sources", "missing", "overheads")
_OWN_USAGE = tuple(field.name for field in fields(Usage) if field.name not in _SHARED_USAGE)
_OWN_USAGE_OF = attrgetter(*_OWN_USAGE)
Pairs = tuple[tuple[str, Any], ...]


@lru_cache(maxsize=256)
def _origins_text(*values: Pairs) -> str:
    return compact({name: dict(pairs) for name, pairs in zip(_SHARED_USAGE, values, strict=True)})[1:-1]


@lru_cache(maxsize=256)
def _shared_text(value: Limits | Attestation | None) -> str:
    return compact(value)


def _own_part(attempt: Attempt) -> Document:
    evidence = attempt.evidence
    timings = evidence.timings
    return {
        "message": attempt.message,
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
        "started_at": evidence.started_at.isoformat(),
        "duration_seconds": timings.test_seconds,
        "queue_seconds": timings.queue_seconds,
        "create_seconds": timings.create_seconds,
        "start_seconds": timings.start_seconds,
        "teardown_seconds": timings.teardown_seconds,
        "clamped": attempt.assignment.clamped,
        "violations": attempt.violations,
        "cases": attempt.cases,
        "witnesses": attempt.witnesses,
        "slot": _fields(evidence.slot),
        "leftovers": evidence.agent.leftovers if evidence.agent else (),
        "leaked_objects": evidence.leaked_objects,
        "stdout": _log_document(evidence.stdout),
        "stderr": _log_document(evidence.stderr),
        "outputs": evidence.outputs,
        "outputs_notes": evidence.outputs_notes,
        "folder": _path(attempt.folder),
    }


def _usage(usage: Usage) -> Document:
    """All figures; `source` is the weakest source among the headline ones, `sources` has each one's own."""
    return {**_fields(usage), "source": _weakest(usage)}


def _weakest(usage: Usage) -> Source | None:
    used = [usage.sources[name] for name in _HEADLINE_FIGURES if name in usage.sources]
    return max(used, key=_RANKING.index) if used else None


_RANKING = list(Source)


def _path(path: Path | None) -> str | None:
    """As the C encoder takes it at once."""
    return None if path is None else str(path)


def _log_document(log: OutputLog) -> Document:
    return {
        "path": _path(log.path),
        "total_bytes": log.total_bytes,
        "kept_bytes": log.kept_bytes,
        "truncated": log.truncated,
    }


def write_run_document(summary: RunSummary, events: Path, path: Path) -> None:
    """run.json, written atomically. Raises OSError."""
    write_atomically(path, run_pieces(summary, events))


def run_pieces(summary: RunSummary, events: Path) -> Iterator[bytes]:
    """`{"schema": 1, "run": {…}, "tests": [{…}], "ledger": {…}}` as ASCII JSON with a newline, indented unless it
    is large; a test at a time, and never all in memory. What it says of each stands already in the run's own
    `events`. Raises OSError if they cannot be read or lack a test.
    """
    number = summary.digest.tests
    head = {"schema": SCHEMA_VERSION, "run": {**_run_fields(summary.run), **_end_fields(summary)}}
    tests, ledger = _told(events, number), ledger_document(summary)
    if number <= _PRETTY_TESTS:
        whole = {**head, "tests": [_in_order(json.loads(text)) for text in tests], "ledger": ledger}
        yield f"{to_json(whole)}\n".encode("ascii")
        return
    yield f'{compact(head)[:-1]}, "tests": [\n'.encode("ascii")
    yield next(tests)
    for text in tests:
        yield b",\n"
        yield text
    yield f'\n], "ledger": {compact(ledger)}}}\n'.encode("ascii")


def _in_order(test: Document) -> Document:
    """Its figures as people read them: as `Usage` has them."""
    for part in (test, *test["attempts"]):
        part["usage"] = {name: part["usage"][name] for name in (*_field_names(Usage), "source")}
    return test


def _told(events: Path, number: int) -> Iterator[bytes]:
    """What the lines of tests that have ended say of them."""
    told = 0
    start, end = len(_TEST_FINISHED), len(b"}\n")
    with events.open("rb") as lines:
        for line in lines:
            if line.startswith(_TEST_FINISHED) and line.endswith(b"}\n"):
                told += 1
                yield line[start:-end]
    if told != number:
        raise OSError(errno.EIO, f"{events.name} has {told} of {number} tests: something has changed it")


_TEST_FINISHED = b'{"event": "test-finished", "test": '


# ---------------------------------------------------------------- events


# An event is one line of jsonl, here without its newline. ASCII, so no character inside can end the line.


def run_started_line(run: Run, plan: Sequence[Assignment]) -> str:
    """The first line: `{"event": "run-started", "schema": 1, "run": {…}, "planned": N}`."""
    return compact(
        {"event": "run-started", "schema": SCHEMA_VERSION, "run": _run_fields(run), "planned": len(plan)}
    )


def test_started_line(assignment: Assignment) -> str:
    """A test was released in a container."""
    return compact({"event": "test-started", **_assignment_fields(assignment)})


def attempt_finished_line(attempt: Attempt, *, will_retry: bool) -> str:
    """An attempt ended; more of the same test may follow."""
    head = {
        "event": "attempt-finished",
        **_assignment_fields(attempt.assignment),
        "will_retry": will_retry,
    }
    return f'{compact(head)[:-1]}, "result": {attempt_text(attempt)}}}'


def test_finished_line(result: TestResult) -> str:
    """A test has its final result: `{"event": "test-finished", "test": {…as in the document…}}`."""
    return f"{_TEST_FINISHED.decode()}{result_text(result)}}}"


def run_finished_line(summary: RunSummary) -> str:
    """The last line: what the document's `run` and `ledger` say at the end."""
    return compact(
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
