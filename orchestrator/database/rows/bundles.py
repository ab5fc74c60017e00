"""Turn model values into rows of the schema. Pure functions: the store writes the rows, or spools them if it
cannot.

A bundle is plain data, so the same rows are written to the database now or, from a line of JSON, later. It
contains no values of environment variables, neither of a test nor of the host.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.database.rows.encoding import clean, content_id, key_of_test, pack_plan, pack_samples
from orchestrator.model.evidence import Timings
from orchestrator.model.outcomes import Outcome
from orchestrator.model.profiles import Limits
from orchestrator.model.tests import TestId
from orchestrator.model.usage import USAGE_NOTES, Usage
from orchestrator.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.model.evidence import Attestation
    from orchestrator.model.results import Attempt, TestResult
    from orchestrator.model.runs import HostInfo, Ledger, Run, RunStatus
    from orchestrator.model.tests import Assignment

Row = dict[str, Any]
"""The values of a row by column name."""

LIMITS = tuple(f.name for f in fields(Limits))
TIMINGS = tuple(f.name for f in fields(Timings))
FIGURES = tuple(f.name for f in fields(Usage) if f.name not in USAGE_NOTES)
"""The names of the figures of a Usage, which are also columns of `attempts`."""

COPIED_FROM_ATTEMPT = ("test_id", "started_at", "is_final")
"""The columns of `violations` that repeat a value of the attempt."""

_NAME_CHARACTERS = 1_000
_TIMINGS_OF = attrgetter(*TIMINGS)
_FIGURES_OF = attrgetter(*FIGURES)
_CONTAINER_KEYS = ("container_name", "container_id", "image_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Rows that are written together or not at all."""

    kind: Literal["begin", "result", "finish"]
    run_id: str
    tables: Mapping[str, list[Row]] = field(default_factory=dict)
    """The rows of each table, by its name. For `finish`, `runs` has one row with the columns to change."""


def begin_bundle(run: Run, planned: Sequence[Assignment], owner: str | None) -> Bundle:
    """Return the rows of a run that begins: its project, its host, the run and its images. `owner`: see
    `Database.begin_run`.
    """
    plan = sorted({(_stored_name(a.test.id), a.repetition) for a in planned}, key=lambda p: (str(p[0]), p[1]))
    host = _host_row(run.host)
    run_row = {
        "id": run.id,
        "started_at": run.started_at,
        "status": "running",
        "owner": owner,
        "argv": [clean(redact(word)) for word in run.argv],
        "project": clean(run.project),
        "project_id": run.project_id,
        "config_digest": run.config_digest,
        "orch_version": run.orch_version,
        "host_id": host["id"],
        "engine_name": run.engine.name,
        "engine_version": run.engine.version,
        "engine": {**asdict(run.engine), "address": redact(run.engine.address)},
        "revision": run.revision,
        "branch": None if run.branch is None else clean(run.branch),
        "dirty": run.dirty,
        "planned_count": len(plan),
        "planned": pack_plan(plan),
    }
    project = {"id": run.project_id, "name": run_row["project"], "named_at": run.started_at}
    images = [{"run_id": run.id, "name": n, "image_id": i} for n, i in run.images.items()]
    tables = {"projects": [project], "hosts": [host], "runs": [run_row], "images": images}
    return Bundle(kind="begin", run_id=run.id, tables=tables)


def _host_row(host: HostInfo) -> Row:
    facts = {
        "machine_id": host.id,
        "cpus": host.cpus,
        "memory_bytes": host.memory_bytes,
        "kernel": host.kernel,
        "python": host.python,
    }
    return {"id": content_id("host", facts), **facts}


ONLY_FRESH = "failed in a reused container and passed in a fresh one"
"""The text in `unclean` of an attempt that failed and whose failure a fresh container did not confirm."""


def result_bundle(run_id: str, project: str, result: TestResult) -> Bundle:
    """Return the rows of a test's result: all attempts with everything that belongs to them, the final attempt
    first. `project`: the id of the project.
    """
    tables: dict[str, list[Row]] = {
        name: [] for name in ("tests", "fact_sheets", "attempts", "cases", "violations", "samples")
    }
    test_id = result.test.id
    key = key_of_test(project, test_id)
    name = _stored_name(test_id)
    tables["tests"].append({"id": key, "project_id": project, "path": name.path, "case_name": name.case})
    for attempt in reversed(result.attempts):
        row, sheets = _attempt_row(run_id, key, attempt)
        row |= _verdict(result, final=attempt is result.final)
        if attempt is result.overruled and attempt.evidence.slot.reused and result.outcome is Outcome.PASSED:
            row["unclean"] = ONLY_FRESH
        tables["attempts"].append(row)
        tables["fact_sheets"] += sheets
        tables["cases"] += _case_rows(attempt)
        tables["violations"] += _violation_rows(
            attempt, of_attempt={name: row[name] for name in COPIED_FROM_ATTEMPT}
        )
        tables["samples"] += _sample_rows(attempt)
    return Bundle(kind="result", run_id=run_id, tables=tables)


def _stored_name(test_id: TestId) -> TestId:
    """Return a test's name in the form that columns can store. Its key is made from the original name."""
    return TestId(path=clean(test_id.path), case=None if test_id.case is None else clean(test_id.case))


def _verdict(result: TestResult, *, final: bool) -> Row:
    return {
        "is_final": final,
        "test_outcome": result.outcome.value if final else None,
        "verb": result.verb.value if final else None,
        "is_flaky": result.flaky if final else None,
    }


def _attempt_row(run_id: str, test_key: str, attempt: Attempt) -> tuple[Row, list[Row]]:
    assignment, evidence, usage = attempt.assignment, attempt.evidence, attempt.evidence.usage
    sheets = [_usage_sheet(usage)]
    container, attestation_sheet = _container(evidence.attestation)
    if attestation_sheet is not None:
        sheets.append(attestation_sheet)
    row = {
        "id": attempt.id,
        "run_id": run_id,
        "test_id": test_key,
        "suite": clean(assignment.test.suite),
        "repetition": assignment.repetition,
        "attempt": assignment.attempt,
        "profile": assignment.profile.name,
        "reason": clean(assignment.reason),
        "clamped": [clean(notice) for notice in assignment.clamped] or None,
        "outcome": attempt.outcome.value,
        "message": clean(attempt.message),
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
        "witnesses": attempt.witnesses,
        "started_at": evidence.started_at,
        **dict(zip(TIMINGS, _TIMINGS_OF(evidence.timings), strict=True)),
        **_limit_columns(assignment.profile.limits),
        **dict(zip(FIGURES, _FIGURES_OF(usage), strict=True)),
        "memory_peak_is_upper_bound": usage.memory_peak_is_upper_bound,
        "memory_peak_is_lower_bound": usage.memory_peak_is_lower_bound,
        "usage_sheet_id": sheets[0]["id"],
        "slot_position": evidence.slot.position,
        "launch": evidence.slot.launch.value,
        "unclean": None if evidence.slot.unclean is None else clean(evidence.slot.unclean),
        **container,
        "attestation_sheet_id": None if attestation_sheet is None else attestation_sheet["id"],
        "stdout_bytes": evidence.stdout.total_bytes,
        "stdout_kept_bytes": evidence.stdout.kept_bytes,
        "stderr_bytes": evidence.stderr.total_bytes,
        "stderr_kept_bytes": evidence.stderr.kept_bytes,
        "outputs_count": len(evidence.outputs),
    }
    return row, sheets


@lru_cache(maxsize=16)
def _limit_columns(limits: Limits) -> Row:
    return {f"limit_{name}": getattr(limits, name) for name in LIMITS}


def _usage_sheet(usage: Usage) -> Row:
    """Return the fact sheet of a usage: the facts that are equal for most attempts of a run. The counters before
    each test are in its metrics.json only.
    """
    return _origins(
        tuple(usage.sources.items()),
        tuple(usage.missing.items()),
        usage.upper_bounds,
        tuple(usage.disagreements.items()),
        tuple(usage.overheads.items()),
    )


Pairs = tuple[tuple[str, Any], ...]


@lru_cache(maxsize=256)
def _origins(
    sources: Pairs, missing: Pairs, upper_bounds: tuple[str, ...], disagreements: Pairs, overheads: Pairs
) -> Row:
    facts: Row = {"sources": {name: source.value for name, source in sources}, "missing": dict(missing)}
    notes: Row = {
        "upper_bounds": list(upper_bounds),
        "disagreements": {name: clean(text) for name, text in disagreements},
        "overheads": dict(overheads),
    }
    return _sheet("usage", facts | {name: note for name, note in notes.items() if note})


def _sheet(kind: str, facts: Row) -> Row:
    return {"id": content_id(kind, facts), "kind": kind, "facts": facts}


def _container(attestation: Attestation | None) -> tuple[Row, Row | None]:
    return (dict.fromkeys(_CONTAINER_KEYS), None) if attestation is None else _attested(attestation)


@lru_cache(maxsize=256)
def _attested(attestation: Attestation) -> tuple[Row, Row]:
    """Return the container columns and the fact sheet of an attestation. Cached, because all tests of a slot share
    one.
    """
    facts = {f.name: getattr(attestation, f.name) for f in fields(attestation)}
    container = {key: facts.pop(key) for key in _CONTAINER_KEYS}
    facts["capabilities"] = list(attestation.capabilities)
    facts["mismatches"] = [clean(mismatch) for mismatch in attestation.mismatches]
    return container, _sheet("attestation", facts)


def _case_rows(attempt: Attempt) -> list[Row]:
    return [
        {
            "attempt_id": attempt.id,
            "position": position,
            "name": clean(case.name, limit=_NAME_CHARACTERS),
            "outcome": case.outcome.value,
            "duration_seconds": case.duration_seconds,
            "message": clean(case.message),
        }
        for position, case in enumerate(attempt.cases)
    ]


def _violation_rows(attempt: Attempt, *, of_attempt: Row) -> list[Row]:
    return [
        {
            "attempt_id": attempt.id,
            "position": position,
            "kind": violation.kind.value,
            "severity": violation.severity.value,
            "measured": violation.measured,
            "limit_value": violation.limit,
            "unit": violation.unit,
            "message": clean(violation.message),
            **of_attempt,
        }
        for position, violation in enumerate(attempt.violations)
    ]


def _sample_rows(attempt: Attempt) -> list[Row]:
    series = attempt.evidence.samples
    if not series:
        return []
    return [{"attempt_id": attempt.id, "samples_count": len(series), "series": pack_samples(series)}]


def finish_bundle(
    run_id: str, *, status: RunStatus, exit_code: int, duration_seconds: float, ledger: Ledger
) -> Bundle:
    """Return the rows of a run that has ended: the columns of its row to change, and its ledger."""
    change = {"status": status.value, "exit_code": exit_code, "duration_seconds": duration_seconds}
    ledger_row = {
        "run_id": run_id,
        "expected_containers": ledger.expected_containers,
        "created_containers": ledger.created_containers,
        "removed_containers": ledger.removed_containers,
        "left_objects": [clean(item) for item in ledger.left],
        "unexpected_objects": [clean(item) for item in ledger.unexpected],
    }
    return Bundle(kind="finish", run_id=run_id, tables={"runs": [change], "ledger": [ledger_row]})
