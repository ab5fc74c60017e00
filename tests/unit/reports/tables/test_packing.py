from __future__ import annotations

from orchestrator.model.tests import ScheduledTest
from orchestrator.reports.tables.packing import MAX_WORKERS, packing_lines


def scheduled(build, name, worker, start, end):
    return ScheduledTest(
        assignment=build.attempt(name).assignment,
        worker=worker,
        started_seconds=start,
        ended_seconds=end,
        fresh=True,
    )


def test_worker_by_worker_with_the_rest_in_one_line(build):
    tests = [scheduled(build, "a.py", 0, 0.0, 4.0), scheduled(build, "b.py", 1, 0.0, 1.0)]
    tests += [scheduled(build, f"c{n}.py", 1, n, n + 0.5) for n in (1, 2, 3)]
    assert packing_lines(tests, 4.0) == [
        "Packing, 2 tests at a time at most:",
        "  worker 1  1 test, busy 100 % of the time",
        "          at 0s      for 4.000s  standard  a.py",
        "  worker 2  4 tests, busy 62 % of the time",
        "          at 0s      for 1.000s  standard  b.py",
        "          at 1.000s  for 0.500s  standard  c1.py",
        "          at 2.000s  for 0.500s  standard  c2.py",
        "          and 1 more, 0.500s together, to 3.500s",
    ]


def test_many_workers_are_counted_and_an_empty_plan_has_none(build):
    tests = [scheduled(build, f"t{n}.py", n, 0.0, 1.0) for n in range(MAX_WORKERS + 3)]
    lines = packing_lines(tests, 1.0)
    assert lines[-1] == "  and 3 workers more with 3 tests"
    assert len(lines) == 2 + 2 * MAX_WORKERS
    assert packing_lines([], 0.0) == []
