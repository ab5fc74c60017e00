"""How evenly shards come out on a real history: by what was known before the newest run, judged by what it took.

    PYTHONPATH=. python bench/shards.py .orch/resources.db [COUNT ...]

Prints the longest shard over the mean: by time as foretold, by time and by hash as the newest run took. No
partition is better than the longest test allows, which is printed too. The database is copied and not changed.
"""

from __future__ import annotations

import sqlite3
import sys
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
    from orchestrator.model.tests import TestId


def taken_by_the_newest(folder: Path) -> tuple[str, dict[TestId, float]]:
    """The newest whole run, and what each of its tests took, in seconds."""
    with Database.open(None, state_dir=folder) as database:
        record = load_run(database, "latest")
    seconds: dict[TestId, float] = defaultdict(float)
    for attempt in record.attempts:
        seconds[attempt.test_id] += attempt.timings.test_seconds
    return record.run.id, dict(seconds)


def main() -> None:
    source, counts = Path(sys.argv[1]), [int(word) for word in sys.argv[2:]] or [2, 4, 8, 16]
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
        told = imbalance(plan, count, ShardBy.TIME)
        worst = {}
        for by in (ShardBy.TIME, ShardBy.HASH):
            loads = [0.0] * count
            for test, owner in zip(seconds, partition(plan, count, by), strict=True):
                loads[owner] += seconds[test]
            worst[by] = max(loads) * count / total
        print(
            f"{count} shards: foretold {told or 0:.4f}; taken {worst[ShardBy.TIME]:.3f}, by hash "
            f"{worst[ShardBy.HASH]:.3f}; not under {max(1.0, longest * count / total):.3f}"
        )


if __name__ == "__main__":
    main()
