"""Text and table of a diagnosis: results under each condition, conditions that make the test fail, advice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.model.flakiness import Condition
from orchestrator.reports.tables.columns import as_ratio, count, number
from orchestrator.reports.tables.flaky import always_text, chance_text, ends_text
from orchestrator.reports.tables.table import Column, Figure, Table
from orchestrator.text import format_ratio, one_line, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.model.flakiness import ConditionResult, Diagnosis
    from orchestrator.reports.tables.table import Cell

_ADVICE = {
    Condition.ITSELF: (
        "look for something that its copies share (a lock, a file of the project, a server), and for waits of a"
        " fixed time; until then set `group: NAME` or `exclusive: true` in its rule"
    ),
    Condition.NEIGHBOURS: (
        "put them into one `group` in profiles.yaml, so that they do not run at the same time; then look for the"
        " resource that they compete for"
    ),
    Condition.REUSED: (
        "something of an earlier test remains in the container: orch confirms such failures in a fresh one; a"
        " profile without `reuse` avoids them"
    ),
    Condition.HALF_CPUS: (
        "it depends on speed: use a profile with more CPUs or a longer timeout, or wait for events instead of"
        " fixed times"
    ),
    Condition.BUSY_HOST: (
        "it depends on the load of the machine: wait for events instead of fixed times; until then use"
        " `exclusive: true` or a longer timeout"
    ),
    Condition.LITTLE_MEMORY: "use a profile with more memory than its peak: caches and garbage need memory too",
}
_WIDTH = max(len(condition.value) for condition in Condition)


def result_text(result: ConditionResult) -> str:
    """Return the line of a condition: `with itself        7 of 10 failed  70 % (40 to 89 %)  2 copies at once`."""
    if result.skipped:
        return f"{result.condition.value:<{_WIDTH}}  not tried: {result.skipped}"
    return (
        f"{result.condition.value:<{_WIDTH}}  {result.failed:>2} of {result.total} failed  {_rate(result):<17}"
        f"  {one_line(result.detail, 300)}"
    )


def _rate(result: ConditionResult) -> str:
    interval = f"{format_ratio(result.low)} to {format_ratio(result.high)}".replace(" %", "", 1)
    return f"{format_ratio(result.failed / result.total)} ({interval})"


def conclusion_lines(diagnosis: Diagnosis) -> list[str]:
    """Return the lines that the terminal shows below the results."""
    end = "; stopped before its end" if diagnosis.interrupted else ""
    recorded = f"recorded as run {diagnosis.run_id[:8]} in .orch/diagnoses, apart from the project's history{end}"
    return ["", *conclusions(diagnosis), recorded]


def conclusions(diagnosis: Diagnosis) -> list[str]:
    """Return sentences on the conditions that make the test fail, with advice, or on what remains open if none
    does.
    """
    by = {result.condition: result for result in diagnosis.results}
    alone = by.get(Condition.ALONE)
    if alone is None or not alone.total:
        return ["no conclusion: the test was not run alone"]
    return [*_culprits(diagnosis, by), *_alone(diagnosis, alone)]


def _culprits(diagnosis: Diagnosis, by: dict[Condition, ConditionResult]) -> Iterator[str]:
    for condition in diagnosis.culprits:
        found = by[condition]
        chance = f", {chance_text(found.chance)}" if found.chance else ""
        yield f"fails {condition.value} ({found.failed} of {found.total}: {ends_text(found.ends)}{chance})"
        if found.message:
            yield f"    message: {one_line(found.message, 200)}"
        yield f"    {_ADVICE[condition]}"


def _alone(diagnosis: Diagnosis, alone: ConditionResult) -> Iterator[str]:
    failed = sum(result.failed for result in diagnosis.results)
    total = sum(result.total for result in diagnosis.results)
    if alone.failed == alone.total:
        yield from _always(diagnosis, alone, passed=total - failed)
    elif alone.failed:
        yield (
            f"fails alone too ({alone.failed} of {alone.total}: {ends_text(alone.ends)}): the cause is in the test"
            " itself (time, random numbers, an order that is not fixed)"
        )
    elif not failed:
        yield (
            f"did not fail in {plural(total, 'attempt')}; alone its failure rate can still be up to"
            f" {format_ratio(alone.high)}: try a larger --runs"
        )
    elif not diagnosis.culprits:
        worst = max(diagnosis.results, key=lambda result: result.low)
        yield (
            f"failed {failed} times, most often {worst.condition.value} ({worst.failed} of {worst.total}), but"
            " chance is not ruled out: try a larger --runs"
        )


def _always(diagnosis: Diagnosis, alone: ConditionResult, *, passed: int) -> Iterator[str]:
    """Yield sentences for a test that always failed alone, for which no condition can be the cause."""
    if passed:
        best = min((one for one in diagnosis.results if one.total), key=lambda one: one.failed / one.total)
        yield (
            f"fails alone each time ({alone.failed} of {alone.total}: {ends_text(alone.ends)}), and passes"
            f" {best.condition.value} ({best.total - best.failed} of {best.total}): look for"
            " something that only this condition provides"
        )
    else:
        total = sum(result.total for result in diagnosis.results)
        more = ": try a larger --runs" if total == 1 else f" ({ends_text(alone.ends)}, alone)"
        yield f"{always_text(total)}{more}"
    if alone.message:
        yield f"    message: {one_line(alone.message, 200)}"


def diagnosis_table(diagnosis: Diagnosis) -> Table:
    """Return a table with a row for each condition."""
    return Table(
        name="diagnosis",
        columns=(
            Column(key="test", title="test"),
            Column(key="run", title="run"),
            Column(key="condition", title="condition"),
            Column(key="detail", title="detail"),
            count("failed"),
            count("attempts"),
            count("rate"),
            count("rate_low", "from"),
            count("rate_high", "to"),
            count("chance", "by chance"),
            Column(key="makes_it_fail", title="makes it fail"),
            Column(key="ends", title="ends"),
            Column(key="message", title="message"),
            Column(key="not_tried", title="not tried"),
        ),
        rows=tuple(_row(diagnosis, result) for result in diagnosis.results),
        empty="no condition was tried",
    )


def _row(diagnosis: Diagnosis, result: ConditionResult) -> tuple[Cell, ...]:
    tried = result.total > 0
    return (
        str(diagnosis.test_id),
        diagnosis.run_id,
        result.condition.value,
        result.detail,
        number(result.failed if tried else None),
        number(result.total),
        as_ratio(result.failed / result.total if tried else None),
        as_ratio(result.low if tried else None),
        as_ratio(result.high if tried else None),
        Figure(result.chance, "count") if result.chance is not None else Figure(None, "none"),
        "yes" if result.condition in diagnosis.culprits else "",
        ends_text(result.ends),
        result.message,
        result.skipped,
    )
