"""How fast the resource database takes results, and answers over a large history.

    PYTHONPATH=. python bench/database.py [--results 2000] [--history 1000000]

Prints the median and p99 of `record` in milliseconds, and, with --history, the time of each question.
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.database.queries import list_runs, load_run, offenders, usage_report
from orchestrator.database.statistics import percentile
from orchestrator.database.store import Database
from orchestrator.model import Sample, TestId
from orchestrator.model_reports import Resource
from orchestrator.reports.usage import WIDE
from tests.unit.database.database_examples import SAMPLES, finish, make_assignment, make_result, make_run

if TYPE_CHECKING:
    from collections.abc import Callable

SERIES = tuple(
    replace(SAMPLES[0], at_seconds=i / 10, memory_bytes=i * 4096, cpu_seconds=i / 30) for i in range(600)
)


def record(folder: Path, number: int, label: str, samples: tuple[Sample, ...]) -> None:
    run = make_run()
    with Database.open(None, state_dir=folder) as database:
        database.begin_run(run, [])
        results = [
            make_result(
                run,
                f"test/{n % 500}.py",
                samples=samples,
                assignment=make_assignment(run, f"test/{n % 500}.py", repetition=1 + n // 500),
            )
            for n in range(number)
        ]
        taken = []
        for result in results:
            started = time.perf_counter()
            database.record(run.id, result)
            taken.append((time.perf_counter() - started) * 1000)
        finish(database, run)
    taken.sort()
    print(f"record, {label}: median {percentile(taken, 0.5):.3f} ms, p99 {percentile(taken, 0.99):.3f} ms")


def grow(path: Path, attempts: int) -> None:
    """Multiply the attempts of the newest run, spread over a year: rows as they are, made by SQL."""
    now = datetime.now(tz=UTC)
    with sqlite3.connect(path, isolation_level=None) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(attempts)")]
        (run_id,) = connection.execute("SELECT id FROM runs LIMIT 1").fetchone()
        template = connection.execute(
            "SELECT * FROM attempts WHERE run_id = ? AND repetition = 1", (run_id,)
        ).fetchall()
        place = {name: columns.index(name) for name in columns}
        connection.execute("BEGIN")
        statement = f"INSERT INTO attempts VALUES ({', '.join('?' * len(columns))})"
        for batch in range(attempts // len(template)):
            at = (now - timedelta(days=365 * batch * len(template) / attempts)).strftime("%Y-%m-%d %H:%M:%S.%f")
            rows = []
            for number, row in enumerate(template):
                copy = list(row)
                copy[place["id"]], copy[place["repetition"]] = str(uuid.uuid4()), 1000 + batch
                copy[place["started_at"]] = at
                copy[place["memory_peak_bytes"]] += (batch * 7919 + number) % 4096 * 1024
                rows.append(copy)
            connection.executemany(statement, rows)
        connection.execute("COMMIT")
    connection.close()


def ask(label: str, question: Callable[[], object]) -> None:
    started = time.perf_counter()
    question()
    print(f"{label}: {(time.perf_counter() - started) * 1000:.0f} ms")


def questions(folder: Path, attempts: int) -> None:
    grow(folder / "resources.db", attempts)
    size = (folder / "resources.db").stat().st_size / 2**20
    print(f"{attempts} attempts: {size:.0f} MiB")
    week = datetime.now(tz=UTC) - timedelta(days=7)
    run = make_run()
    started = time.perf_counter()
    with Database.open(None, state_dir=folder) as database:
        print(f"open: {(time.perf_counter() - started) * 1000:.1f} ms")
        ids = [TestId(path=f"test/{n}.py") for n in range(500)]
        ask("history of 500 tests", lambda: database.history(ids))
        ask("offenders, all time", lambda: offenders(database))
        ask("offenders, 7 days", lambda: offenders(database, since=week, by="memory-ratio"))
        ask("usage report, 7 days", lambda: usage_report(database, since=week))
        ask("usage report, all time", lambda: usage_report(database))
        ask("usage report, all time, as orch report shows it", lambda: usage_report(database, resources=WIDE))
        ask("usage report, all time, pids", lambda: usage_report(database, resources=(Resource.PIDS,)))
        ask("list of runs", lambda: list_runs(database))
        database.begin_run(run, [])
        database.record(run.id, make_result(run))
        finish(database, run)
        ask("load the latest run", lambda: load_run(database, "latest"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=int, default=2000)
    parser.add_argument("--history", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        record(Path(folder), arguments.results, "no samples", ())
        record(Path(folder), arguments.results // 4, "600 samples", SERIES)
        if arguments.history:
            questions(Path(folder), arguments.history)


if __name__ == "__main__":
    main()
