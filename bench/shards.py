"""How evenly the tests of a real project are divided into shards.

The shards are computed from the history before the newest run, and judged by the durations of that run. Printed is
the longest shard divided by the mean: predicted, and measured with the shards by time and by hash. The longest
test sets a lower bound, which is printed too. The database is copied and not changed.
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.database.queries.runs import load_run
from orchestrator.database.store.store import Database
from orchestrator.scheduling.shards import ShardBy, imbalance, partition
from tests.unit.database.database_examples import make_assignment, make_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.model.tests import TestId


def taken_by_the_newest(folder: Path) -> tuple[str, dict[TestId, float]]:
    """Return the ID of the newest run and the seconds of each of its tests."""
    with Database.open(None, state_dir=folder) as database:
        record = load_run(database, "latest")
    seconds: dict[TestId, float] = defaultdict(float)
    for attempt in record.attempts:
        seconds[attempt.test_id] += attempt.timings.test_seconds
    return record.run.id, dict(seconds)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database", type=Path, help="a SQLite database of orch, such as .orch/resources.db")
    parser.add_argument("counts", type=int, nargs="*", default=[2, 4, 8, 16], help="numbers of shards")
    arguments = parser.parse_args(argv)
    source, counts = arguments.database, arguments.counts
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(folder / "resources.db")) as new:
            old.backup(new)
        newest, seconds = taken_by_the_newest(folder)
        with closing(sqlite3.connect(folder / "resources.db")) as connection, connection:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("DELETE FROM runs WHERE id = ?", (newest,))
            (runs,) = connection.execute("SELECT count(*) FROM runs").fetchone()
        with Database.open(None, state_dir=folder) as database:
            known = database.history(seconds)
    run = make_run()
    plan = [make_assignment(run, t.path, case=t.case, history=known.get(t)) for t in seconds]
    total, longest = sum(seconds.values()), max(seconds.values())
    print(f"{len(plan)} tests, {len(known)} with history of {runs} runs; {total:.1f} s, longest {longest:.2f} s")
    for count in counts:
        predicted = imbalance(plan, count, ShardBy.TIME)
        worst = {}
        for by in (ShardBy.TIME, ShardBy.HASH):
            loads = [0.0] * count
            for test, owner in zip(seconds, partition(plan, count, by), strict=True):
                loads[owner] += seconds[test]
            worst[by] = max(loads) * count / total
        print(
            f"{count} shards: predicted {predicted or 0:.4f}; measured {worst[ShardBy.TIME]:.3f}, by hash "
            f"{worst[ShardBy.HASH]:.3f}; lower bound {max(1.0, longest * count / total):.3f}"
        )
    return 0
