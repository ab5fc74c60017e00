"""Read single past attempts for right-sizing and for the gates of `orch check`, as far back as attempts are
stored: sums of days do not contain single attempts.
"""

from __future__ import annotations

from collections import defaultdict
from statistics import median
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.database.queries.runs import run_rows
from orchestrator.database.rows.mapping import names_of_tests
from orchestrator.database.rows.raw_rows import RawQuery, fetch_raw, in_chunks
from orchestrator.database.schema.resource_columns import MEMORY
from orchestrator.database.schema.tables import attempts, hosts, runs, tests
from orchestrator.figures import median_of_known
from orchestrator.model.outcomes import Outcome
from orchestrator.model.regression import RunFigures
from orchestrator.model.rightsizing import Observations
from orchestrator.model.tests import TestId

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from orchestrator.database.rows.raw_rows import RawRows
    from orchestrator.database.store.store import Database
    from orchestrator.model.stored import RunRow

_FACTS = Observations.__slots__
_COLUMNS = [attempts.c["test_seconds" if fact == "duration_seconds" else fact] for fact in _FACTS]
_OUTCOMES = {outcome.value: outcome for outcome in Outcome}


def observed(db: Database, *, since: datetime | None, at_most: int = 500) -> Mapping[TestId, Observations]:
    """Return each test's newest attempts, at most `at_most`, newest first. Tests without an attempt are left
    out.
    """
    within = attempts.c.started_at >= since if since is not None else sa.true()
    with db.reading() as connection:
        keys = names_of_tests(connection, db.scope(connection))
        number = connection.execute(sa.select(sa.func.count(attempts.c.started_at)).where(within)).scalar_one()
        query = sa.select(*_COLUMNS, attempts.c.test_id).where(within)
        if number <= at_most * len(keys):
            rows = _all_at_once(connection, query.order_by(attempts.c.started_at), keys)
        else:
            newest = query.order_by(attempts.c.started_at.desc()).limit(at_most)
            rows = _one_by_one(connection, newest, keys)
    return {keys[key]: _observations(some[:at_most]) for key, some in rows.items() if some}


def _all_at_once(connection: sa.Connection, query: sa.Select[Any], keys: Collection[str]) -> Mapping[str, RawRows]:
    """Read attempts in order of the table, which reads each page once, and group them by test, newest first. A
    test may have more attempts than needed.
    """
    found: dict[str, list[tuple[Any, ...]]] = {key: [] for key in keys}
    for row in reversed(fetch_raw(connection, query)):  # SQLite reads forwards a fifth faster than backwards
        some = found.get(row[-1])
        if some is not None:
            some.append(row)
    return found


def _one_by_one(connection: sa.Connection, query: sa.Select[Any], keys: Collection[str]) -> Mapping[str, RawRows]:
    """Read the limited number of attempts of each test separately."""
    asked = RawQuery(connection, query.where(attempts.c.test_id == sa.bindparam("test_id")))
    return {key: asked.rows(test_id=key) for key in keys}


def _observations(rows: RawRows) -> Observations:
    facts: dict[str, Any] = dict(zip(_FACTS, zip(*rows, strict=True), strict=False))  # the key is the last column
    return Observations(**{**facts, "outcome": tuple(map(_OUTCOMES.__getitem__, facts["outcome"]))})


def runs_up_to(
    db: Database, newest: RunRow, *, branch: str | None, revision: str | None = None, limit: int
) -> tuple[RunRow, ...]:
    """Return runs of the same project that have ended, newest first: `newest` and those that began before it, at
    most `limit`. `branch`: their branch, or None for runs without one; `revision`: their revision, or None for
    any.
    """
    query = (
        sa.select(runs.c.id)
        .where(runs.c.project_id == newest.project_id, runs.c.branch.is_not_distinct_from(branch))
        .where(runs.c.started_at <= newest.started_at, runs.c.status != "running")
        .order_by(runs.c.started_at.desc())
        .limit(limit)
    )
    if revision is not None:
        query = query.where(runs.c.revision == revision)
    with db.reading() as connection:
        return run_rows(connection, connection.execute(query).scalars().all())


def has_branch(db: Database, project_id: str, branch: str) -> bool:
    """Return True if the project has a run of that branch."""
    query = sa.select(runs.c.id).where(runs.c.project_id == project_id, runs.c.branch == branch).limit(1)
    with db.reading() as connection:
        return connection.execute(query).first() is not None


def figures_of_runs(db: Database, run_ids: Sequence[str]) -> Mapping[TestId, tuple[RunFigures, ...]]:
    """Return what each test used in each of these runs in which it passed, in the runs' order."""
    query = (
        sa.select(
            attempts.c.run_id,
            hosts.c.machine_id,
            tests.c.path,
            tests.c.case_name,
            MEMORY,
            attempts.c.test_seconds,
            attempts.c.cpu_seconds,
            attempts.c.launch,
        )
        .join(tests, tests.c.id == attempts.c.test_id)
        .join(runs, runs.c.id == attempts.c.run_id)
        .join(hosts, hosts.c.id == runs.c.host_id)
        .where(attempts.c.is_final, attempts.c.outcome == Outcome.PASSED.value)
    )
    found: dict[tuple[str, str | None], dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    machines: dict[str, str] = {}
    with db.reading() as connection:
        for some in in_chunks(run_ids):
            here = query.where(attempts.c.run_id.in_(some))
            for run_id, machine, path, case, *figures in fetch_raw(connection, here):
                found[path, case][run_id].append(figures)
                machines[run_id] = machine
    return {
        TestId(path=path, case=case): tuple(
            _figures(run, by_run[run], machines[run]) for run in run_ids if run in by_run
        )
        for (path, case), by_run in found.items()
    }


def _figures(run_id: str, rows: Sequence[Sequence[Any]], machine: str) -> RunFigures:
    # where repetitions were started in both ways, only the forked ones count
    launch = min(row[-1] for row in rows)
    memory, durations, cpu, _ = zip(*[row for row in rows if row[-1] == launch], strict=True)
    return RunFigures(
        run_id=run_id,
        memory_peak_bytes=median_of_known(memory),
        duration_seconds=median(durations),
        cpu_seconds=median_of_known(cpu),
        machine=machine,
        launch=launch,
    )
