"""Compute the rows of the table from measurements: errors relative to the truth, and targets. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.accuracy.programs import FIGURES, NULL
from orchestrator.figures import median_of_known

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.accuracy.programs import Measurement, Program


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure of one program under one tool, over all rounds. Errors are figure minus truth."""

    tool: str
    program: str
    figure: str
    truth: float | None
    """The median of the true values; None: it is not known."""
    runs: int
    missing: int
    """The number of runs without this figure."""
    source: str
    median: float | None
    worst: float | None
    """The figure that is farthest from its truth; without a truth the highest one."""
    error_median: float | None = None
    error_worst: float | None = None
    error_ratio: float | None = None
    """The relative error of the medians; None if the truth is 0."""
    floor: float | None = None
    """The median of the tool's figure for a program that does nothing."""
    above_floor_worst: float | None = None
    """The largest error after subtracting the floor."""
    within: int | None = None
    """The number of runs within the target; None: there is no target."""


def rows(measurements: Sequence[Measurement], programs: Sequence[Program]) -> list[Row]:
    """Return a row for each program, figure with a truth or required figure, and tool."""
    tools = list(dict.fromkeys(m.tool for m in measurements))
    table = []
    for program in programs:
        for name, figure in FIGURES.items():
            if not (figure.always or name in program.truth):
                continue
            for tool in tools:
                mine = [m for m in measurements if m.tool == tool and m.program == program.name]
                null = [m.figures.get(name) for m in measurements if m.tool == tool and m.program == NULL]
                if mine:
                    table.append(_row(name, program, mine, median_of_known(null)))
    return table


def _truth(name: str, program: Program, measurement: Measurement) -> float | None:
    return measurement.own_cpu_seconds if name == "cpu_seconds" else program.truth.get(name)


def _row(name: str, program: Program, mine: Sequence[Measurement], floor: float | None) -> Row:
    pairs = [(value, _truth(name, program, m)) for m in mine if (value := m.figures.get(name)) is not None]
    sources = dict.fromkeys(m.sources.get(name, "") for m in mine if m.figures.get(name) is not None)
    errors = [(value - truth, value) for value, truth in pairs if truth is not None]
    worst_error, worst = max(errors, key=lambda pair: abs(pair[0]), default=(None, None))
    values = [value for value, _ in pairs]
    truth = median_of_known([_truth(name, program, m) for m in mine])
    error = median_of_known([error for error, _ in errors])
    # what a program does on top of nothing: not for the null program itself, nor where a limit caps both
    net = [e - floor for e, _ in errors] if floor is not None and _adds_up(program) else [e for e, _ in errors]
    return Row(
        tool=mine[0].tool,
        program=program.name,
        figure=name,
        truth=truth,
        runs=len(mine),
        missing=len(mine) - len(pairs),
        source=", ".join(source for source in sources if source),
        median=median_of_known(values),
        worst=worst if worst is not None else max(values, default=None),
        error_median=error,
        error_worst=worst_error,
        error_ratio=error / truth if error is not None and truth else None,
        floor=floor,
        above_floor_worst=max(net, key=abs, default=None),
        within=_within(name, program, pairs, floor),
    )


def _adds_up(program: Program) -> bool:
    """Return whether the floor adds to the figure: not for `null` itself, nor for programs that a limit ended."""
    return program.name != NULL and program.outcome != "oom"


def _within(
    name: str, program: Program, pairs: Sequence[tuple[float, float | None]], floor: float | None
) -> int | None:
    """Return how many figures met the target: the larger of the relative and the absolute one."""
    figure = FIGURES[name]
    if figure.target_ratio is None or figure.target_absolute is None:
        return None
    if all(truth is None for _, truth in pairs):
        return None
    off = floor if floor is not None and figure.above_floor and _adds_up(program) else 0.0
    return sum(
        abs(value - off - truth) <= max(figure.target_ratio * truth, figure.target_absolute)
        for value, truth in pairs
        if truth is not None
    )
