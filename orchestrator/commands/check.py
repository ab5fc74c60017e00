"""`orch check`: compare the resource usage of tests with a baseline; exit code 3 on a resource regression."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.analysis.regression import (
    MAXIMUM_NEW_RUNS,
    MAXIMUM_OLD_RUNS,
    MINIMUM_NEW_RUNS,
    MINIMUM_OLD_RUNS,
    compare,
)
from orchestrator.coordinator.console import note, say, show
from orchestrator.coordinator.database import database_to_read
from orchestrator.database.queries.observations import figures_of_runs, has_branch, runs_up_to
from orchestrator.database.queries.runs import find_run
from orchestrator.errors import ExitCode, NothingFoundError, StateError, UsageError
from orchestrator.files import write_atomically
from orchestrator.model.regression import GateRow, Judgement, RunFigures
from orchestrator.model.tests import TestId
from orchestrator.reports.formats.github import check_annotations
from orchestrator.reports.json_encoding import to_json_line
from orchestrator.reports.tables.gates import gates_table
from orchestrator.text import plural

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.database.store.store import Database
    from orchestrator.model.stored import RunRow

    Figures = Mapping[TestId, Sequence[RunFigures]]

FILE_KIND = "orch-baseline"
FILE_SCHEMA = 2
"""The schema of the baseline files that are written. In schema 1 the memory of a test included the memory that was
charged to its container before the test began.
"""
_TOLERANCE = re.compile(r"\+?(\d{1,4}(?:\.\d{1,3})?)\s*%")
_GATES = (
    ("memory", "memory_peak_bytes", "bytes", 1024 * 1024),
    ("time", "duration_seconds", "seconds", 0.1),
    ("cpu", "cpu_seconds", "seconds", 0.05),
)
"""For each gate: its name, the measured field, its unit, and the growth in that unit below which nothing is
reported.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions:
    """The options of `orch check`."""

    config_path: Path | None
    database: str | None
    run_id: str
    baseline: str | None
    memory: str
    time: str
    cpu: str
    save: Path | None
    output_format: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The runs with which the new runs are compared."""

    name: str
    figures: Figures
    runs: int


def check(options: CheckOptions) -> int:
    """Compare the newest runs with the baseline, or write one. Return exit code 3 on a resource regression."""
    if (options.baseline is None) == (options.save is None):
        raise UsageError(
            "orch check needs either --baseline or --save", remedy="for example: orch check --baseline main"
        )
    tolerances = {"memory": options.memory, "time": options.time, "cpu": options.cpu}
    allowed = {name: parsed for name, text in tolerances.items() if (parsed := parse_tolerance(text)) is not None}
    with database_to_read(options.config_path, options.database) as db:
        newest = find_run(db, options.run_id)
        if options.save is not None:
            return _save(db, newest, options.save)
        assert options.baseline is not None  # noqa: S101 - one of the two is given; tells the type checker
        baseline, new_runs = _sides(db, newest, options.baseline)
        new = figures_of_runs(db, [run.id for run in new_runs])
    rows = _compared(baseline.figures, new, allowed)
    return _print_result(rows, baseline, len(new_runs), options.output_format)


def parse_tolerance(text: str) -> float | None:
    """Return a tolerance as a fraction: 0.1 for `+10%` or `10 %`, None for `off`. Raises UsageError for other
    texts.
    """
    if text.strip().lower() == "off":
        return None
    found = _TOLERANCE.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"cannot read the tolerance {text!r}", remedy="write a percentage such as +10%, or off")
    return float(found[1]) / 100


# ---------------------------------------------------------------- which runs


def _sides(db: Database, newest: RunRow, name: str) -> tuple[Baseline, Sequence[RunRow]]:
    """Return the baseline called `name`, and the new runs that are compared with it, newest first.

    A file takes precedence over a branch, and a branch over a run's id. Raises NothingFoundError if there is none
    of the three.
    """
    path = Path(name)
    if path.is_file():
        return _read(path, newest), _newest(db, newest, exclude=())
    if has_branch(db, newest.project_id, name):
        new = _newest(db, newest, exclude=())
        earlier = runs_up_to(db, newest, branch=name, revision=None, limit=MAXIMUM_OLD_RUNS + MAXIMUM_NEW_RUNS)
        taken = {run.id for run in new}
        return _recorded(db, name, [run for run in earlier if run.id not in taken]), new
    try:
        last = find_run(db, name)
    except NothingFoundError as error:
        remedy = "a baseline is a file, a branch of recorded runs, or a run (orch runs list)"
        raise NothingFoundError(f"no file, branch or run is called {name!r}", remedy=remedy) from error
    old = runs_up_to(db, last, branch=last.branch, limit=MAXIMUM_OLD_RUNS)
    return _recorded(db, f"run {last.short_id}", old), _newest(db, newest, exclude=[run.id for run in old])


def _newest(db: Database, newest: RunRow, *, exclude: Sequence[str]) -> Sequence[RunRow]:
    """Return the new runs: those of the newest run's revision if there are enough, else those of its branch.

    Runs in `exclude` are left out. Raises UsageError if no run is left.
    """
    found: Sequence[RunRow] = ()
    if newest.revision is not None and not newest.dirty:
        found = runs_up_to(db, newest, branch=newest.branch, revision=newest.revision, limit=MAXIMUM_NEW_RUNS)
    if len(found) < MINIMUM_NEW_RUNS:
        found = runs_up_to(db, newest, branch=newest.branch, limit=MAXIMUM_NEW_RUNS)
    new = [run for run in found if run.id not in exclude]
    if not new:
        raise UsageError(
            f"run {newest.short_id} is part of the baseline", remedy="name an older baseline, or check a newer run"
        )
    return new


def _recorded(db: Database, name: str, runs: Sequence[RunRow]) -> Baseline:
    return Baseline(name=name, figures=figures_of_runs(db, [run.id for run in runs]), runs=len(runs))


# ---------------------------------------------------------------- baselines as files


def _save(db: Database, newest: RunRow, path: Path) -> int:
    runs = runs_up_to(db, newest, branch=newest.branch, limit=MAXIMUM_OLD_RUNS)
    figures = figures_of_runs(db, [run.id for run in runs])
    tests = [
        {
            "path": test.path,
            "case": test.case,
            "runs": [
                {"run": f.run_id, "memory_peak_bytes": f.memory_peak_bytes, "duration_seconds": f.duration_seconds,
                 "cpu_seconds": f.cpu_seconds, "machine": f.machine, "launch": f.launch}
                for f in found
            ],
        }
        for test, found in sorted(figures.items(), key=lambda item: str(item[0]))
    ]  # fmt: skip
    document = {
        "kind": FILE_KIND,
        "schema": FILE_SCHEMA,
        "project": newest.project,
        "project_id": newest.project_id,
        "tests": tests,
    }
    try:
        write_atomically(path, (to_json_line(document) + "\n").encode())
    except OSError as error:
        raise StateError(f"{path} cannot be written: {error.strerror}") from error
    say(f"{path}: {plural(len(tests), 'test')} of {plural(len(runs), 'run')}")
    return ExitCode.OK


def _read(path: Path, newest: RunRow) -> Baseline:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        schema = document["schema"]
        if document["kind"] != FILE_KIND or schema not in (1, FILE_SCHEMA):
            raise ValueError("the file is of another kind, or of a newer orch")
        figures = {
            TestId(path=str(test["path"]), case=test["case"]): tuple(_figures(one, schema) for one in test["runs"])
            for test in document["tests"]
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is not a baseline: {error}", remedy="orch check --save FILE writes one"
        ) from error
    if schema == 1:
        note(f"{path} was written by an older orch, which measured memory in another way: memory is not compared")
    known, project = document.get("project_id"), newest.project
    if known != newest.project_id and (known is not None or document.get("project") != project):
        note(f"{path} is a baseline of project {document.get('project')}, not of {project}")
    return Baseline(name=str(path), figures=figures, runs=max(map(len, figures.values()), default=0))


def _figures(one: Mapping[str, Any], schema: int) -> RunFigures:
    return RunFigures(
        run_id=str(one["run"]),
        memory_peak_bytes=None if schema == 1 else _number(one["memory_peak_bytes"]),
        duration_seconds=_number(one["duration_seconds"]) or 0.0,
        cpu_seconds=_number(one["cpu_seconds"]),
        machine=None if one.get("machine") is None else str(one["machine"]),
        launch=None if one.get("launch") is None else str(one["launch"]),
    )


def _number(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"not a figure: {value!r}")
    return float(value)


# ---------------------------------------------------------------- comparison and output


def _compared(old: Figures, new: Figures, allowed: Mapping[str, float]) -> list[GateRow]:
    rows = []
    for test, now in new.items():
        for name, field, unit, minimum in _GATES:
            if name not in allowed:
                continue
            before, after = _measured(old.get(test, ()), field), _measured(now, field)
            if name == "memory" and after:
                before, after = _alike(before, after[0]), _alike(after, after[0])
            known = [one.machine for one in (*before, *after) if one.machine is not None]
            found = compare(
                [getattr(one, field) for one in before],
                [getattr(one, field) for one in after],
                tolerance=allowed[name],
                minimum=minimum,
                # baseline files of older versions do not contain the machines
                machines=(known[: len(before)], known[len(before) :])
                if len(known) == len(before) + len(after)
                else None,
            )
            rows.append(GateRow(test_id=test, resource=name, unit=unit, tolerance=allowed[name], comparison=found))
    return sorted(rows, key=lambda row: (-(row.comparison.growth or 0), str(row.test_id), row.resource))


def _alike(figures: Sequence[RunFigures], newest: RunFigures) -> Sequence[RunFigures]:
    """Return the figures of runs that started the test in the same way as `newest`.

    A test that starts its own interpreter needs more memory than one in a preloaded interpreter; that is no
    growth.
    """
    return [one for one in figures if one.launch == newest.launch]


def _measured(figures: Sequence[RunFigures], field: str) -> Sequence[RunFigures]:
    return [one for one in figures if getattr(one, field) is not None]


def _print_result(rows: Sequence[GateRow], baseline: Baseline, new_runs: int, output_format: str) -> int:
    by = {kind: [row for row in rows if row.comparison.judgement is kind] for kind in Judgement}
    grown, suspected, few = by[Judgement.GROWN], by[Judgement.SUSPECTED], by[Judgement.TOO_FEW]
    if output_format == "github":
        for line in check_annotations(grown, suspected):
            say(line)
    elif output_format in ("json", "csv"):
        show(gates_table(rows), output_format)
    else:
        show(gates_table([*grown, *suspected]), output_format)
    write_line = say if output_format == "table" else note
    write_line(
        f"{plural(len(rows), 'comparison')} of {plural(new_runs, 'run')} with {baseline.name}"
        f" ({plural(baseline.runs, 'run')}): {len(grown)} grown, {len(suspected)} suspected,"
        f" {len(by[Judgement.UNCHANGED])} unchanged, {len(few)} with too few runs"
    )
    if suspected or few:
        needed = f"at least {MINIMUM_NEW_RUNS} new and {MINIMUM_OLD_RUNS} old runs"
        write_line(f"a comparison needs {needed} in which the test passed")
    return ExitCode.VIOLATIONS if grown else ExitCode.OK
