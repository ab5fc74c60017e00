"""The report as Markdown, and its raw figures as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.accuracy.programs import FIGURES, MIB

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.accuracy.judge import Row

_HEAD = (
    "program",
    "tool",
    "truth",
    "median",
    "worst",
    "error, median",
    "error, worst",
    "floor",
    "worst above floor",
    "in target",
    "missing",
    "source",
)
_TITLES = {
    "cpu_seconds": "CPU time",
    "memory_bytes": "Peak memory",
    "shmem_bytes": "Peak of tmpfs and shared memory",
    "pids": "Peak pids",
    "open_files": "Most open files",
    "output_bytes": "Bytes of output",
    "wall_seconds": "Wall time",
    "oom_kills": "OOM kills",
}


def markdown(document: Mapping[str, Any], table: Sequence[Row]) -> str:
    """Return the whole page."""
    parts = [f"# Accuracy, {document['began']['at'][:10]}", _setting(document), _summary(document, table)]
    for figure, title in _TITLES.items():
        mine = [row for row in table if row.figure == figure]
        if mine:
            shown = [row for row in mine if row.truth is not None and row.missing < row.runs]
            parts += [f"## {title}{_target(figure)}", _grid(shown), *_rest(mine)]
    return "\n\n".join(parts) + "\n"


_TERMS = (
    "Truth of CPU time is what the program says of itself (CLOCK_PROCESS_CPUTIME_ID from main() on, plus its"
    " children): the start and the end of the process are not in it. Truth of the others is what the program was"
    " told to do. Floor: the median of what the tool shows of a program that does nothing."
)


def _setting(document: Mapping[str, Any]) -> str:
    machine, engine = document["machine"], document["engine"]
    memory = machine["memory_bytes"] / (1 << 30)
    hardware = f"{machine['processor']}, {machine['cpus']:g} CPUs, {memory:.0f} GiB"
    kernel = f"Linux {machine['kernel']}, cgroup v{machine['cgroup_version']}, huge pages {machine['huge_pages']}"
    driver = f"cgroup driver {engine['cgroup_driver']}, storage {engine['storage_driver']}"
    load = f"{_load(document['began'])} at the start, {_load(document['ended'])} at the end"
    lines = [
        f"- Machine: {hardware}, {kernel}",
        f"- Engine: {engine['name']} {engine['version']}, {driver}; orch as {machine['user']}",
        f"- Rounds: {document['rounds']}, the tools in turn, one program at a time; load average {load}",
        f"- runexec: {document['runexec']}",
        f"- {_TERMS}",
    ]
    return "\n".join(lines + [f"- Sampler: {line}" for line in document["sampler"]])


def _load(moment: Mapping[str, Any]) -> str:
    return " ".join(f"{number:g}" for number in moment["load"])


def _summary(document: Mapping[str, Any], table: Sequence[Row]) -> str:
    lines = []
    for tool in dict.fromkeys(row.tool for row in table):
        mine = [row for row in table if row.tool == tool]
        for name, figure in FIGURES.items():
            judged = [row for row in mine if row.figure == name and row.within is not None]
            if judged:
                met, runs = sum(row.within or 0 for row in judged), sum(row.runs for row in judged)
                lines.append(f"- {tool}: {_TITLES[name]} within target in {met} of {runs} runs")
            if figure.always:
                missing = sum(row.missing for row in mine if row.figure == name)
                lines.append(f"- {tool}: {_TITLES[name]} missing in {missing} runs")
    wrong = [f"{tool} {program}: {outcome} ({count})" for tool, program, outcome, count in document["unexpected"]]
    lines.append("- Outcomes other than expected: " + (", ".join(wrong) or "none"))
    lines.append(f"- Runs of orch in which two sources disagreed: {document['disagreements']}")
    return "\n".join(lines)


def _target(name: str) -> str:
    figure = FIGURES[name]
    if figure.target_ratio is None or figure.target_absolute is None:
        return ""
    if figure.target_absolute == 0:
        return " (target: exact)"
    absolute = "5 ms" if figure.unit == "s" else "1 MiB"
    above = " above the floor" if figure.above_floor else ", as reported"
    return f" (target: within {figure.target_ratio:.0%} or {absolute}{above})"


def _grid(table: Sequence[Row]) -> str:
    lines = ["| " + " | ".join(_HEAD) + " |", "|" + "---|" * 2 + "--:|" * 9 + "---|"]
    return "\n".join(lines + ["| " + " | ".join(_cells(row)) + " |" for row in table])


def _rest(table: Sequence[Row]) -> list[str]:
    """Return the lines about programs without a known truth and tools without a figure."""
    lines = []
    for tool in dict.fromkeys(row.tool for row in table):
        mine = [row for row in table if row.tool == tool]
        if all(row.missing == row.runs for row in mine):
            lines.append(f"- {tool} gives no such figure.")
            continue
        free = [row for row in mine if row.truth is None and row.median is not None]
        if free:
            low, high = min(free, key=lambda row: row.median or 0), max(free, key=lambda row: row.worst or 0)
            lines.append(
                f"- {tool}, without a known truth: lowest median {_shown(low, low.median)} ({low.program}),"
                f" highest figure {_shown(high, high.worst)} ({high.program}), of one that does nothing"
                f" {_shown(low, low.floor)}; missing in {sum(row.missing for row in mine)} runs"
            )
    return ["\n".join(lines)] if lines else []


def _cells(row: Row) -> list[str]:
    share = "" if row.error_ratio is None or abs(row.error_ratio) >= 1 else f" ({row.error_ratio:+.1%})"
    return [
        row.program,
        row.tool,
        _shown(row, row.truth),
        _shown(row, row.median),
        _shown(row, row.worst),
        _shown(row, row.error_median, sign=True) + share,
        _shown(row, row.error_worst, sign=True),
        _shown(row, row.floor),
        _shown(row, row.above_floor_worst, sign=True),
        "" if row.within is None else f"{row.within}/{row.runs}",
        str(row.missing) if row.missing else "",
        row.source,
    ]


def _shown(row: Row, value: float | None, *, sign: bool = False) -> str:
    if value is None:
        return ""
    plus = "+" if sign else ""
    match FIGURES[row.figure].unit:
        case "MiB":
            return f"{value / MIB:{plus}.2f} MiB"
        case "s":
            return f"{value * 1000:{plus}.1f} ms"
        case _:
            return f"{value:{plus}g}"
