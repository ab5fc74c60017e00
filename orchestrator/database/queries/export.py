"""Export a stored run as plain data: the content of run.json and more, with samples on request."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

from orchestrator.database.queries.runs import load_run, load_samples

if TYPE_CHECKING:
    from orchestrator.database.store.store import Database
    from orchestrator.model.stored import AttemptRow, RunRecord, RunRow

SHAPE_VERSION = 1


def export_run(db: Database, name: str, *, samples: bool = False) -> dict[str, Any]:
    """Return a run as dicts, lists, strings, numbers, booleans and None. `name`: see `load_run`."""
    record = load_run(db, name)
    groups = groupby(record.attempts, key=lambda a: (a.test_id, a.repetition))
    return {
        "schema": SHAPE_VERSION,
        "run": _run(record.run),
        "tests": [_test(db, list(attempts), samples=samples) for _, attempts in groups],
        "not_run": [str(test_id) for test_id in record.not_run],
        "ledger": _ledger(record),
    }


def _run(run: RunRow) -> dict[str, Any]:
    facts = asdict(run)
    facts["started_at"] = run.started_at.isoformat()
    facts["status"] = run.status.value
    facts["argv"] = list(run.argv)
    facts["engine"]["warnings"] = list(run.engine.warnings)
    return facts


def _test(db: Database, attempts: list[AttemptRow], *, samples: bool) -> dict[str, Any]:
    """Return one test of one repetition. Its figures are those of the final attempt."""
    final = next((a for a in attempts if a.final), attempts[-1])
    outcome = final.test_outcome or final.outcome
    return {
        "id": str(final.test_id),
        "suite": final.suite,
        "repetition": final.repetition,
        "outcome": outcome.value,
        "verb": None if final.verb is None else final.verb.value,
        "flaky": final.flaky,
        **_attempt(final),
        "attempts": [
            {"id": a.id, "attempt": a.attempt, "outcome": a.outcome.value, **_attempt(a)}
            | ({"samples": [asdict(s) for s in load_samples(db, a.id)]} if samples else {})
            for a in attempts
        ],
    }


def _attempt(attempt: AttemptRow) -> dict[str, Any]:
    usage = asdict(attempt.usage)
    usage["upper_bounds"] = list(usage["upper_bounds"])
    usage["source"] = {figure: source.value for figure, source in usage.pop("sources").items()}
    attestation = None if attempt.attestation is None else asdict(attempt.attestation)
    if attestation is not None:
        for name in ("capabilities", "mismatches"):
            attestation[name] = list(attestation[name])
    return {
        "profile": attempt.profile,
        "reason": attempt.reason,
        "clamped": list(attempt.clamped),
        "message": attempt.message,
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
        "witnesses": attempt.witnesses,
        "slot_position": attempt.slot.position,
        "launch": attempt.slot.launch.value,
        "unclean": attempt.slot.unclean,
        "started_at": attempt.started_at.isoformat(),
        "duration_seconds": attempt.timings.test_seconds,
        **{k: v for k, v in asdict(attempt.timings).items() if k != "test_seconds"},
        "usage": usage,
        "limits": asdict(attempt.limits),
        "attestation": attestation,
        "stdout_bytes": attempt.stdout_bytes,
        "stderr_bytes": attempt.stderr_bytes,
        "violations": [
            {**asdict(v), "kind": v.kind.value, "severity": v.severity.value} for v in attempt.violations
        ],
        "cases": [{**asdict(c), "outcome": c.outcome.value} for c in attempt.cases],
    }


def _ledger(record: RunRecord) -> dict[str, Any] | None:
    if record.ledger is None:
        return None
    ledger = record.ledger
    return {
        "expected": ledger.expected_containers,
        "created": ledger.created_containers,
        "removed": ledger.removed_containers,
        "left": list(ledger.left),
        "unexpected": list(ledger.unexpected),
    }
