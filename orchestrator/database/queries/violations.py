"""Read the violations of one run, or of all runs within a window.

Violations repeat the time and the test of their attempt, so those of a year are counted without reading the
attempts, which are wide and spread over a gigabyte.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.database.queries.runs import find_run
from orchestrator.database.rows.mapping import names_of_tests
from orchestrator.database.rows.raw_rows import fetch_raw, in_chunks, parse_timestamp
from orchestrator.database.schema import tables
from orchestrator.database.schema.resource_columns import tests_of
from orchestrator.model.outcomes import Outcome
from orchestrator.model.stored import ViolationRow
from orchestrator.model.violation_groups import ViolationGroup, group_violations
from orchestrator.model.violations import Severity, Violation, ViolationKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from orchestrator.database.rows.raw_rows import RawRows
    from orchestrator.database.store.store import Database
    from orchestrator.model.tests import TestId
    from orchestrator.model.violation_groups import CountedGroup

_COLUMNS = ("attempt_id", "position", "kind", "severity", "measured", "limit_value", "unit", "message")
_COUNTED = ("started_at", "attempt_id", "position", "test_id", "kind", "severity", "measured")
_OUTCOMES = {outcome.value: outcome for outcome in Outcome}
_KINDS = {kind.value: kind for kind in ViolationKind}
_SEVERITIES = {severity.value: severity for severity in Severity}
_SEVERITY_RANKS = {severity.value: severity.rank for severity in Severity}


def load_violations(
    db: Database, *, run: str | None = None, since: datetime | None = None, until: datetime | None = None
) -> tuple[ViolationRow, ...]:
    """Return the violations of final attempts, oldest first. `run`: named as for `load_run`."""
    violations = tables.violations
    this_run = [] if run is None else [tables.attempts.c.run_id == find_run(db, run).id]
    with db.reading() as connection:
        project = None if run is not None else db.scope(connection)
        names = names_of_tests(connection, project)
        query = _whole([*_within(since, until, project), *this_run]).order_by(
            violations.c.started_at, violations.c.attempt_id, violations.c.position
        )
        return tuple(_violation_row(row, names) for row in fetch_raw(connection, query))


def load_violation_groups(
    db: Database, *, since: datetime | None = None, until: datetime | None = None, limit: int
) -> tuple[tuple[ViolationGroup, ...], int]:
    """Return the first `limit` groups that `group_violations` makes of `load_violations`, and the number of
    further groups.
    """
    columns = (tables.violations.c[name] for name in _COUNTED)
    with db.reading() as connection:
        project = db.scope(connection)
        names = names_of_tests(connection, project)
        text = {key: str(test) for key, test in names.items()}
        found = sorted(
            fetch_raw(connection, sa.select(*columns).where(*_within(since, until, project))),
            key=itemgetter(0, 1, 2),
        )
        known = group_violations(
            (attempt, text[test], kind, _SEVERITY_RANKS[severity], measured, at)
            for at, attempt, _, test, kind, severity, measured in found
        )
        shown = known[:limit]
        worst = _budgets(connection, [found[one.worst] for one in shown], names)
    return tuple(_violation_group(one, found, worst) for one in shown), len(known) - len(shown)


def _within(since: datetime | None, until: datetime | None, project: str | None) -> list[sa.ColumnElement[bool]]:
    violations = tables.violations.c
    conditions: list[sa.ColumnElement[bool]] = [violations.is_final, *tests_of(violations.test_id, project)]
    if since is not None:
        conditions.append(violations.started_at >= since)
    if until is not None:
        conditions.append(violations.started_at < until)
    return conditions


def _whole(conditions: Iterable[sa.ColumnElement[bool]]) -> sa.Select[Any]:
    """Build the query for complete violations, joined with their attempts."""
    attempts, violations = tables.attempts, tables.violations
    columns = (violations.c[name] for name in (*_COLUMNS, "test_id", "started_at"))
    query = sa.select(*columns, attempts.c.run_id, attempts.c.profile, attempts.c.outcome)
    return query.join(attempts, attempts.c.id == violations.c.attempt_id).where(*conditions)


def _budgets(
    connection: sa.Connection, wanted: Sequence[tuple[Any, ...]], names: Mapping[str, TestId]
) -> Mapping[tuple[str, int], ViolationRow]:
    """Return violations by attempt and position."""
    attempts = list(dict.fromkeys(row[1] for row in wanted))
    found: dict[tuple[str, int], ViolationRow] = {}
    for some in in_chunks(attempts):
        query = _whole([tables.violations.c.attempt_id.in_(some)])
        found |= {(row[0], row[1]): _violation_row(row, names) for row in fetch_raw(connection, query)}
    return found


def _violation_group(
    one: CountedGroup, found: RawRows, worst: Mapping[tuple[str, int], ViolationRow]
) -> ViolationGroup:
    _, attempt, position, *_ = found[one.worst]
    return ViolationGroup(
        worst=worst[attempt, position],
        last_at=parse_timestamp(found[one.last][0]),
        times=one.times,
        ordinal=one.ordinal,
    )


def _violation_row(row: tuple[Any, ...], names: Mapping[str, TestId]) -> ViolationRow:
    attempt, _, kind, severity, measured, limit, unit, message, test, started_at, run, profile, outcome = row
    return ViolationRow(
        run_id=run,
        attempt_id=attempt,
        test_id=names[test],
        profile=profile,
        outcome=_OUTCOMES[outcome],
        started_at=parse_timestamp(started_at),
        violation=Violation(
            kind=_KINDS[kind],
            severity=_SEVERITIES[severity],
            measured=measured,
            limit=limit,
            unit=unit,
            message=message,
        ),
    )
