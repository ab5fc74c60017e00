"""Packed data of the tests' own pages: JSON, deflated, in base64, whose alphabet contains no markup.

report.js unpacks and draws a page when it is opened. History and samples are reduced until the report has its
maximum size; tests with problems are reduced last.
"""

from __future__ import annotations

import base64
import json
import zlib
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

from orchestrator.figures import known_values
from orchestrator.model.nightly import AttemptHistory, Series
from orchestrator.model.outcomes import FAILING_CASES
from orchestrator.model.resources import Resource
from orchestrator.reports.tables.columns import figure_of
from orchestrator.text import bounded, decode, one_line, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from orchestrator.model.nightly import Nightly, NightlyTest, OutputTails
    from orchestrator.model.stored import AttemptRow
    from orchestrator.model.tests import TestId
    from orchestrator.reports.html.timeline import Timeline

NAME_LIMIT = 300
_LINE_LIMIT = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class DetailLevel:
    """Level of detail of a test's page."""

    points: int
    """The number of points of a time series."""
    history: int
    """The number of earlier attempts."""
    tail: int
    """The number of characters of each output stream."""
    digits: int
    """The number of significant digits of figures; that of tests without problems is used for all tests."""
    width: int
    """Characters for each value of a series: 1 for 64 steps from zero to the highest value, 2 for 4096."""


_FULL = DetailLevel(points=80, history=30, tail=6000, digits=4, width=2)
_SHORT = DetailLevel(points=40, history=14, tail=2000, digits=4, width=2)
_STEPS = (
    (_FULL, _FULL),
    (_FULL, DetailLevel(points=30, history=14, tail=1000, digits=3, width=1)),
    (_FULL, DetailLevel(points=16, history=8, tail=400, digits=3, width=1)),
    (_SHORT, DetailLevel(points=10, history=6, tail=0, digits=2, width=1)),
    (_SHORT, DetailLevel(points=8, history=0, tail=0, digits=2, width=1)),
    (_SHORT, DetailLevel(points=5, history=0, tail=0, digits=2, width=1)),
    (_SHORT, DetailLevel(points=0, history=0, tail=0, digits=2, width=1)),
    (
        DetailLevel(points=20, history=8, tail=500, digits=3, width=1),
        DetailLevel(points=0, history=0, tail=0, digits=2, width=1),
    ),
)
_ROOM_PER_TEST = (900, 220, 100, 55, 40, 30, 20, 0)
"""Minimum number of characters for each test at which a detail level of `_STEPS` is tried."""
"""Detail levels for tests with problems and for the other tests, from the most detailed to the least."""

_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-"
_PAIRS = [high + low for high in _DIGITS for low in _DIGITS]
_MISSING = "."


@dataclass(frozen=True, slots=True, kw_only=True)
class DetailInput:
    """Data that the details are made from."""

    report: Nightly
    tests: Sequence[NightlyTest]
    """Tests in the order of the table, which defines their numbers."""
    drawn: Timeline | None
    tails: Mapping[str, OutputTails]
    """Output of attempts by their ids."""
    flaky: AbstractSet[TestId] = frozenset()


def packed_details(source: DetailInput, *, limit: int) -> str:
    """Return base64 text of at most `limit` characters, or the smallest possible text if even that is longer."""
    each = limit / max(len(source.tests), 1)
    text = ""
    for (for_problems, for_others), least in zip(_STEPS, _ROOM_PER_TEST, strict=True):
        if each < least:
            continue
        text = _pack(_document(source, for_problems, for_others))
        if len(text) <= limit:
            break
    return text


def unpacked(text: str) -> Any:
    """Return the data that `packed_details` packed."""
    return json.loads(zlib.decompress(base64.b64decode(text)))


def _pack(document: object) -> str:
    plain = json.dumps(document, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return base64.b64encode(zlib.compress(plain.encode("utf-8", "replace"), level=9)).decode("ascii")


def _document(source: DetailInput, for_problems: DetailLevel, for_others: DetailLevel) -> dict[str, Any]:
    number = {test.test_id: at for at, test in enumerate(source.tests)}
    runs = {run: number for number, run in enumerate(source.report.began)}
    entries = []
    for test in source.tests:
        problem = test.failing or bool(test.kinds) or test.test_id in source.flaky
        detail = for_problems if problem else for_others
        entries.append(_test(test, detail, runs, source.tails.get(test.last.id)))
    attempts = [_attempt(attempt) for test in source.tests for attempt in test.attempts]
    return {
        "tests": columns(entries),
        "usage": columns([_usage(test.last, for_others.digits) for test in source.tests]),
        "attempts": [list(column) for column in zip(*attempts, strict=True)],
        "runs": [round(began.timestamp()) for began in source.report.began.values()],
        "lanes": [] if source.drawn is None else _lanes(source.drawn, number),
    }


def columns(entries: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return a list for each key, with None for entries without it. Similar values are then adjacent, which
    compresses well.
    """
    keys = dict.fromkeys(key for entry in entries for key in entry)
    return {key: [entry.get(key) for entry in entries] for key in keys}


def _lanes(drawn: Timeline, number: Mapping[Any, int]) -> list[Any]:
    """Return the seconds of a unit, then a list for each lane. It has three numbers for each block: units since
    the previous end, length in units, and the number of the test.
    """
    unit = max(drawn.seconds / 4000, 0.001)
    lanes: list[list[int]] = [[] for _ in range(drawn.lanes)]
    ended = [0] * drawn.lanes
    for block in drawn.blocks:
        start, end = round(block.start / unit), round(block.end / unit)
        lanes[block.lane] += [start - ended[block.lane], end - start, number.get(block.attempt.test_id, -1)]
        ended[block.lane] = end
    return [unit, *lanes]


def _test(
    test: NightlyTest, detail: DetailLevel, runs: Mapping[str, int], tails: OutputTails | None
) -> dict[str, Any]:
    last = test.last
    entry: dict[str, Any] = {
        "suite": one_line(last.suite, 80),
        "reason": one_line(last.reason, 200),
        "message": one_line(last.message, _LINE_LIMIT),
        "limits": [last.limits.memory_bytes, last.limits.timeout_seconds, last.limits.cpus, last.limits.pids],
        "attempts": len(test.attempts),
        "run": last.run_id[:8],
        "violations": [
            [v.kind.value, v.severity.value, one_line(v.message, _LINE_LIMIT)] for v in last.violations
        ],
        "cases": [len(last.cases), *_failed_cases(last)],
        "history": _history(test, detail, runs),
        "samples": _samples(test.samples, last, detail),
    }
    if test.outcome_before is not None:
        entry["before"] = test.outcome_before.value
    if tails is not None:
        entry["out"], entry["err"] = _tail(tails.stdout, detail.tail), _tail(tails.stderr, detail.tail)
    return {key: value for key, value in entry.items() if value not in ("", [], {}, None)}


def name_of(test: NightlyTest) -> str:
    """Return a test's name on one line, escaped and bounded."""
    return one_line(str(test.test_id), NAME_LIMIT)


_SHOWN = (
    "cpu_user_seconds",
    "cpu_system_seconds",
    "memory_peak_bytes",
    "memory_floor_bytes",
    "page_cache_bytes",
    "anon_peak_bytes",
    "file_peak_bytes",
    "shmem_peak_bytes",
    "pids_peak",
    "oom_kills",
    "throttled_seconds",
    "read_bytes",
    "write_bytes",
)


def _usage(attempt: AttemptRow, digits: int) -> dict[str, float | str]:
    """Return the figures of an attempt; text is the reason why a figure is missing."""
    found: dict[str, float | str] = {}
    for name in _SHOWN:
        value = getattr(attempt.usage, name)
        if value is not None:
            found[name] = significant(value, digits)
        elif name in attempt.usage.missing:
            found[name] = one_line(attempt.usage.missing[name], 200)
    bounds = {name: figure_of(attempt.usage, name, "").bound for name in found}
    at_most, at_least = (" ".join(n for n in found if bounds[n] == sign) for sign in ("<=", ">="))
    return found | {key: names for key, names in (("at_most", at_most), ("at_least", at_least)) if names}


def significant(value: float, digits: int) -> float:
    """Return `value` rounded to `digits` significant digits, as an int if it is whole."""
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded == int(rounded) else rounded


def _attempt(attempt: AttemptRow) -> list[Any]:
    timings = attempt.timings
    return [
        attempt.repetition,
        attempt.attempt,
        attempt.outcome.value,
        one_line(attempt.profile, 80),
        significant(timings.test_seconds, 3),
        significant(timings.queue_seconds, 2),
        significant(timings.create_seconds + timings.start_seconds, 2),
        attempt.slot.position,
        attempt.slot.launch.value,
        one_line(attempt.message, _LINE_LIMIT),
    ]


def _failed_cases(attempt: AttemptRow) -> Iterator[list[str]]:
    failed = [case for case in attempt.cases if case.outcome in FAILING_CASES]
    for case in failed[:20]:
        yield [one_line(case.name, 200), case.outcome.value, one_line(case.message, _LINE_LIMIT)]


def _history(test: NightlyTest, detail: DetailLevel, runs: Mapping[str, int]) -> list[Any]:
    """Return [numbers of the runs, outcomes, encoded seconds, encoded bytes] with an element for each attempt."""
    now = test.now.newest(detail.history) if detail.history else AttemptHistory()
    before = test.before.newest(detail.history - len(now)) if detail.history > len(now) else AttemptHistory()
    if len(before) + len(now) < 2:
        return []
    figures = [
        [*before.figures.get(resource, ()), *now.figures.get(resource, ())]
        for resource in (Resource.DURATION, Resource.MEMORY)
    ]
    return [
        [runs[run] for run in (*before.run_ids, *now.run_ids)],
        [outcome.value for outcome in (*before.outcomes, *now.outcomes)],
        *(encoded_series(values, detail.width) for values in figures),
    ]


def _samples(samples: Series, last: AttemptRow, detail: DetailLevel) -> list[Any]:
    """Return [duration in seconds (None: that of the attempt), encoded memory, CPU seconds, tasks] at equal
    intervals.
    """
    kept = thinned(samples, detail.points)
    if len(kept) < 2:
        return []
    usage = last.usage
    memory = _beyond(kept.memory_bytes, usage.memory_floor_bytes)
    if detail.width > 1:
        encoded = [encoded_series(values, detail.width) for values in (memory, kept.cpu_seconds, kept.pids)]
        return [significant(kept.at_seconds[-1], 4), *encoded]
    # The page has these figures of the attempt: for short series, duration and maxima would be most of the text.
    tops = usage.memory_peak_bytes, _total(usage.cpu_user_seconds, usage.cpu_system_seconds)
    encoded = [
        encoded_series(values, 1, top=top) for values, top in zip((memory, kept.cpu_seconds), tops, strict=True)
    ]
    return [None, *encoded]


def _beyond(values: Sequence[float | None], floor: float | None) -> Sequence[float | None]:
    """Return the values minus the memory that was charged before the test."""
    return values if not floor else [None if value is None else max(0.0, value - floor) for value in values]


def _total(*figures: float | None) -> float | None:
    return sum(f for f in figures if f is not None) if None not in figures else None


def encoded_series(values: Sequence[float | None], width: int, *, top: float | None = None) -> list[Any]:
    """Encode values as [top, width, text]: each value is its share of the top in `width` digits of base 64; None
    is dots.

    `top`: a maximum that the reader knows, for which the result has None. By default the highest value is used.
    Return [] if no value is known.
    """
    known = known_values(values)
    if not known:
        return []
    highest, steps = top or max(known) or 1.0, 64**width - 1
    digits = _DIGITS if width == 1 else _PAIRS
    if len(known) == len(values) and not top and min(known) >= 0:  # all shares are from 0 to 1
        text = "".join([digits[round(value / highest * steps)] for value in known])
    else:
        shares = [
            None if value is None else min(round(max(value, 0.0) / highest * steps), steps) for value in values
        ]
        text = "".join([width * _MISSING if share is None else digits[share] for share in shares])
    return [None if top else significant(highest, 4), width, text]


def thinned(samples: Series, count: int) -> Series:
    """Return at most `count` points at equal intervals, from the first to the last. Each point has the highest
    memory and the most tasks since the previous point. Empty for fewer than two points.
    """
    times = samples.at_seconds
    count = min(count, len(times))
    if count < 2:
        return Series()
    first, last = times[0], times[-1]
    until = [first, *(first + (last - first) * part / (count - 1) for part in range(1, count - 1)), last]
    ends = [1, *(bisect_right(times, moment, lo=1) for moment in until[1:])]
    # An interval without a sample repeats the point before it.
    parts = [slice(0, 1), *(slice(start, end) for start, end in pairwise(ends))]
    for place in range(1, count):
        if parts[place].start == parts[place].stop:
            parts[place] = parts[place - 1]
    return Series(
        at_seconds=until,
        memory_bytes=_highest(samples.memory_bytes, parts),
        cpu_seconds=[samples.cpu_seconds[part.stop - 1] for part in parts],
        pids=_highest(samples.pids, parts),
    )


def _highest(values: Sequence[float | None], parts: Sequence[slice]) -> list[float | None]:
    if None not in values:
        return [max(cast("Sequence[float]", values[part])) for part in parts]
    known = [[value for value in values[part] if value is not None] for part in parts]
    return [max(some, default=None) for some in known]


def _tail(data: bytes, characters: int) -> str:
    """Return the end of an output stream, escaped: at most `characters`, and at most 400 characters for a line."""
    if characters <= 0:
        return ""
    text = visible(decode(data[-8 * characters :]))  # shorten first: the output can have 5 MB
    lines = [bounded(line, _LINE_LIMIT) for line in text.split("\n")]
    joined = "\n".join(lines).rstrip()
    return joined if len(joined) <= characters else "…" + joined[-characters:]
