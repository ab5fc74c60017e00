"""How fast the resource database records results and answers queries over a large history.

Prints the median and p99 of `record` in milliseconds and, with --history, the wall and CPU time of each query; CPU
times are comparable on a busy machine too.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import tempfile
import time
import uuid
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.config.settings import Retention
from orchestrator.database.queries.offenders import offenders
from orchestrator.database.queries.run_diff import diff_runs
from orchestrator.database.queries.runs import list_runs, load_run
from orchestrator.database.queries.sizes import database_size
from orchestrator.database.queries.usage import usage_report
from orchestrator.database.queries.violations import load_violation_groups
from orchestrator.database.schema.views import VIEWS
from orchestrator.database.store.store import Database
from orchestrator.figures import percentile
from orchestrator.model.resources import Resource
from orchestrator.model.tests import TestId
from orchestrator.reports.tables.usage import WIDE
from tests.unit.database.database_examples import SAMPLES, finish, make_assignment, make_result, make_run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.model.usage import Sample

DAYS = 400
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
    """Multiply the results of one run into `attempts` over 400 days, by SQL.

    The figures vary, some attempts have violations, and some are flaky.
    """
    now, chance = datetime.now(tz=UTC), random.Random(0)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        (run_id,) = connection.execute("SELECT id FROM runs LIMIT 1").fetchone()
        old = {
            table: connection.execute(f"SELECT * FROM {table} WHERE {key}", (run_id,)).fetchone()
            for table, key in (
                ("runs", "id = ?"),
                ("violations", "attempt_id IN (SELECT id FROM attempts WHERE run_id = ?)"),
                ("cases", "attempt_id IN (SELECT id FROM attempts WHERE run_id = ?)"),
                ("samples", "attempt_id IN (SELECT id FROM attempts WHERE run_id = ?)"),
            )
        }
        template = connection.execute(
            "SELECT * FROM attempts WHERE run_id = ? AND repetition = 1", (run_id,)
        ).fetchall()
        columns = [row[1] for row in connection.execute("PRAGMA table_info(attempts)")]
        place = {name: number for number, name in enumerate(columns)}
        batches = attempts // len(template)
        for batch in range(batches):
            age = DAYS * (batches - batch) / batches
            started = now - timedelta(days=age)
            connection.execute("BEGIN")
            _grow_run(connection, old, template, place, (started, age, chance))
            connection.execute("COMMIT")
        days = (now - timedelta(days=n) for n in range(DAYS + 1))
        connection.executemany(
            "INSERT OR IGNORE INTO stale_days VALUES (?)", [(d.date().isoformat(),) for d in days]
        )


def _grow_run(connection, old, template, place, when) -> None:  # type: ignore[no-untyped-def]
    started, age, chance = when
    at = started.strftime("%Y-%m-%d %H:%M:%S.%f")
    run_id = str(uuid.UUID(int=chance.getrandbits(128), version=4))
    run = list(old["runs"])
    run[0], run[1], run[2] = run_id, at, "finished"
    connection.execute(f"INSERT INTO runs VALUES ({', '.join('?' * len(run))})", run)
    rows: dict[str, list[tuple[object, ...]]] = {"attempts": [], "violations": [], "cases": [], "samples": []}
    for original in template:
        row = list(original)
        key = row[place["id"]] = str(uuid.UUID(int=chance.getrandbits(128), version=4))
        row[place["run_id"]], row[place["repetition"]], row[place["started_at"]] = run_id, 1, at
        row[place["memory_peak_bytes"]] += chance.randrange(4096) * 4096
        row[place["cpu_seconds"]] *= chance.uniform(0.8, 1.4)
        row[place["test_seconds"]] *= chance.uniform(0.8, 1.4)
        row[place["throttled_seconds"]] = chance.choice((0.0, 0.0, 0.0, chance.random()))
        row[place["pids_peak"]] = chance.randrange(2, 9)
        row[place["is_flaky"]] = chance.random() < 0.01
        rows["attempts"].append(tuple(row))
        rows["cases"].append((key, *old["cases"][1:]))
        if chance.random() < 0.05:
            *broken, _, _, is_final = old["violations"]
            rows["violations"].append((key, *broken[1:], row[place["test_id"]], at, is_final))
        if age < 90:  # retention has removed older ones
            rows["samples"].append((key, *old["samples"][1:]))
    for table, new in rows.items():
        if new:
            connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(new[0]))})", new)


def ask(label: str, question: Callable[[], object]) -> None:
    started, used = time.perf_counter(), time.process_time()
    question()
    taken, used = time.perf_counter() - started, time.process_time() - used
    print(f"{label}: {taken * 1000:.0f} ms, of CPU {used * 1000:.0f} ms", flush=True)


def questions(folder: Path, attempts: int) -> None:
    started = time.perf_counter()
    grow(folder / "resources.db", attempts)
    print(f"{attempts} attempts over {DAYS} days made in {time.perf_counter() - started:.0f} s")
    answer(folder)


def answer(folder: Path) -> None:
    now = datetime.now(tz=UTC)
    week, month, long = (now - timedelta(days=n) for n in (7, 30, DAYS))
    run = make_run()
    started = time.perf_counter()
    with Database.open(None, state_dir=folder) as database:
        print(f"open: {(time.perf_counter() - started) * 1000:.1f} ms")
        ask("usage report, 400 days, before any day is summed up", lambda: usage_report(database, since=long))
        ask("sum up all days", database.sum_up)
        for row in database_size(database).tables:
            print(f"  {row.name}: {row.rows} rows, {0 if row.bytes is None else row.bytes / 2**20:.0f} MiB")
        print(f"  all: {database_size(database).bytes / 2**20:.0f} MiB")
        ids = [TestId(path=f"test/{n}.py") for n in range(500)]
        ask("history of 500 tests", lambda: database.history(ids))
        for label, since in (("7 days", week), ("30 days", month), ("400 days", long), ("all time", None)):
            ask(f"usage report, {label}", lambda since=since: usage_report(database, since=since))
            ask(
                f"usage report, {label}, as shown",
                lambda since=since: usage_report(database, since=since, resources=WIDE),
            )
            ask(
                f"usage report, {label}, all resources",
                lambda since=since: usage_report(database, since=since, resources=tuple(Resource)),
            )
            ask(f"offenders, {label}, memory", lambda since=since: offenders(database, since=since))
            ask(f"offenders, {label}, pids", lambda since=since: offenders(database, since=since, by="pids"))
            ask(
                f"offenders, {label}, by all",
                lambda since=since: [offenders(database, since=since, by=r) for r in Resource],
            )
            ask(f"violations, {label}", lambda since=since: load_violation_groups(database, since=since, limit=50))
        ask("list of runs", lambda: list_runs(database))
        first, second = (row.id for row in list_runs(database, 2))
        ask("diff of two runs", lambda: diff_runs(database, first, second))
        for view in VIEWS:
            ask(f"view {view.name}", lambda view=view: _read(folder / "resources.db", view.name))
        ask("size of tables", lambda: database_size(database))
        database.begin_run(run, [])
        results = [make_result(run, f"test/{n}.py", samples=()) for n in range(500)]
        taken = []
        for result in results:
            started = time.perf_counter()
            database.record(run.id, result)
            taken.append((time.perf_counter() - started) * 1000)
        taken.sort()
        print(f"record: median {percentile(taken, 0.5):.3f} ms, p99 {percentile(taken, 0.99):.3f} ms")
        ask("end of a run", lambda: finish(database, run))
        ask("load the latest run", lambda: load_run(database, "latest"))
        ask("prune with nothing to do", lambda: database.prune(Retention()))


def _read(path: Path, view: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"SELECT * FROM {view}").fetchall()


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=int, default=2000)
    parser.add_argument("--history", type=int, default=0)
    parser.add_argument(
        "--keep", type=Path, help="folder of the large history; created if it does not exist, else reused"
    )
    arguments = parser.parse_args(argv)
    if arguments.keep is not None and (arguments.keep / "resources.db").exists():
        answer(arguments.keep)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        record(Path(folder), arguments.results, "no samples", ())
        record(Path(folder), arguments.results // 4, "600 samples", SERIES)
        if arguments.history:
            place = arguments.keep or Path(folder) / "history"
            record(place, 500, "the history's first run", SERIES[:32])
            questions(place, arguments.history)
    return 0
