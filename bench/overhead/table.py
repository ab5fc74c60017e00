"""The report as Markdown, and its raw figures as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.overhead.comparing import Judged, Spread, Timing

_HEAD = ("work", "ours", "against", "ours, s", "theirs, s", "ratio", "target", "met")


@dataclass(slots=True, kw_only=True)
class RowResult:
    """The figures of a row, or why it has none."""

    name: str
    title: str
    load_before: Sequence[float]
    judged: Sequence[Judged] = ()
    facts: Sequence[str] = ()
    timings: Sequence[Timing] = field(default_factory=tuple)
    failure: str | None = None
    """The reason why there are no figures."""
    skipped: str | None = None


def markdown(document: Mapping[str, Any], results: Sequence[RowResult]) -> str:
    """Return the whole page."""
    parts = [f"# Overhead, {document['began']['at'][:10]}", _setting(document), *_warnings(document)]
    parts += [f"## {result.name}: {result.title}\n\n{_section(result)}" for result in results]
    return "\n\n".join(parts) + "\n"


def as_json(document: Mapping[str, Any], results: Sequence[RowResult]) -> str:
    """Return all figures and each timing, one timing a line."""
    rows = []
    for result in results:
        plain = asdict(result)
        timings = ",\n    ".join(json.dumps(t) for t in plain.pop("timings"))
        head = json.dumps(plain, indent=2).removesuffix("\n}")
        rows.append(f'{head},\n  "timings": [\n    {timings}\n  ]\n}}')
    head = json.dumps(dict(document), indent=1).removesuffix("\n}")
    return f'{head},\n "rows": [{", ".join(rows)}]\n}}\n'


def _setting(document: Mapping[str, Any]) -> str:
    machine, engine = document["machine"], document["engine"]
    memory = machine["memory_bytes"] / (1 << 30)
    hardware = f"{machine['processor']}, {machine['cpus']:g} CPUs, {memory:.0f} GiB"
    lines = [
        f"- Machine: {hardware}, Linux {machine['kernel']}, cgroup v{machine['cgroup_version']}",
        (
            f"- Engine: {engine['name']} {engine['version']}, cgroup driver {engine['cgroup_driver']},"
            f" storage {engine['storage_driver']}; orch {document['orch']} as {machine['user']}"
        ),
        (
            f"- Rounds: {document['rounds']}, the contenders of a row in turn, there and back again; load average"
            f" {_load(document['began']['load'])} at the start, {_load(document['ended']['load'])} at the end"
        ),
        (
            "- Times are medians (lowest to highest) of a whole process, start to exit. Ratio: the two medians'"
            " (lowest to highest of the single rounds)."
        ),
        (
            "- orch's images are built and its calibration is done before; a run that is not measured goes before"
            " the first round, so that the measured ones have history."
        ),
    ]
    return "\n".join(lines)


def _warnings(document: Mapping[str, Any]) -> list[str]:
    return ["**--quick: reduced work; no target is judged.**"] * document["quick"]


def _section(result: RowResult) -> str:
    parts = [f"Load average before: {_load(result.load_before)}."]
    if result.failure is not None:
        parts.append(f"**FAILED**, no figures: {result.failure}")
    elif result.skipped is not None:
        parts.append(f"Skipped: {result.skipped}")
    else:
        parts.append(_grid(result.judged))
    if result.facts:
        parts.append("\n".join(f"- {fact}" for fact in result.facts))
    return "\n\n".join(parts)


def _grid(table: Sequence[Judged]) -> str:
    lines = ["| " + " | ".join(_HEAD) + " |", "|" + "---|" * 3 + "--:|" * 4 + "---|"]
    return "\n".join(lines + ["| " + " | ".join(_cells(row)) + " |" for row in table])


def _cells(row: Judged) -> list[str]:
    limit = "" if row.target is None else f"<= {row.target:g}" + (" ms" if row.theirs is None else "")
    return [
        row.title,
        row.ours_name,
        row.theirs_name,
        _spread(row.ours, " ms a test" if row.theirs is None else ""),
        "" if row.theirs is None else _spread(row.theirs),
        "" if row.ratio is None else _spread(row.ratio),
        limit,
        {True: "yes", False: "**no**", None: ""}[row.met],
    ]


def _spread(spread: Spread, unit: str = "") -> str:
    """Return text such as `1.50 (1.40 to 1.70)`; a single figure has no range."""
    if spread.count == 1:
        return f"{spread.median:.3g}{unit}" if spread.median < 1 else f"{spread.median:.2f}{unit}"
    digits = 3 if spread.median < 1 else 2
    return f"{spread.median:.{digits}f}{unit} ({spread.low:.{digits}f} to {spread.high:.{digits}f})"


def _load(load: Sequence[float]) -> str:
    return " ".join(f"{number:g}" for number in load)
