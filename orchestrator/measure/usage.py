"""From several readings to one `Usage`: each figure from the best source that has it, or the reason why none.

Rules, each from a measurement (see `counters`): running counters are differences between two readings of the
same cgroup. Peaks are the parent's if they rose while the test ran. OOM kills and refused forks are the
highest that any cgroup saw, because a parent on v1 does not see its children's. Throttling is
never the parent's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.measure.counters import NANOSECONDS, Counters
from orchestrator.model import Source, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from orchestrator.model import Sample

_RUNNING = ("cpu_seconds", "cpu_user_seconds", "cpu_system_seconds", "read_bytes", "write_bytes")
_LOCAL = ("throttled_periods", "throttled_seconds")
_EVENTS = ("oom_kills", "pids_limit_hits")
_PEAKS = ("memory_peak_bytes", "swap_peak_bytes", "pids_peak")
_PRESENT = {"memory_peak_bytes": "memory_bytes", "pids_peak": "pids"}
_KINDS = {"anon_peak_bytes": "anon_bytes", "file_peak_bytes": "file_bytes", "shmem_peak_bytes": "shmem_bytes"}
_REASONS = {
    "anon_peak_bytes": "no sample was taken while the test ran",
    "file_peak_bytes": "no sample was taken while the test ran",
    "shmem_peak_bytes": "no sample was taken while the test ran",
    "read_bytes": "the kernel counted no I/O of this cgroup",
    "write_bytes": "the kernel counted no I/O of this cgroup",
}
_LOCAL_REASON = "it is counted in the container's own cgroup, which was gone before it could be read"


@dataclass(frozen=True, slots=True)
class _Span:
    """Two readings of one cgroup: at the test's start (None: it was new then) and at its end."""

    source: Source
    start: Counters | None
    end: Counters | None

    def last(self, name: str) -> float | None:
        return None if self.end is None else getattr(self.end, name)

    def first(self, name: str) -> float | None:
        return None if self.start is None else getattr(self.start, name)

    def growth(self, name: str) -> float | None:
        """None also where it shrank: then the two readings are not of one cgroup."""
        last = self.last(name)
        if last is None:
            return None
        difference = last - (self.first(name) or 0)
        return difference if difference >= 0 else None


def combine(
    *,
    kernel: Counters | None,
    kernel_start: Counters | None,
    container: Counters | None,
    agent_start: Counters | None,
    agent_end: Counters | None,
    stats: Counters | None,
    reason: str | None,
    samples: Sequence[Sample] = (),
    samples_source: Source = Source.KERNEL,
) -> Usage:
    """What the test used. `kernel` and `kernel_start`: the slot's parent cgroup at the end and when the test
    was released (None: the parent was new). `container`: the last reading of the container's own cgroup, the
    one that the agent reads too. `samples` give the peaks by kind of memory, of which the kernel keeps none.
    `reason`: why a figure without any source is missing, if the caller knows better.
    """
    parent = _Span(Source.KERNEL, kernel_start, kernel)
    own = _Span(Source.KERNEL, agent_start, container)
    agent = _Span(Source.AGENT, agent_start, agent_end)
    engine = _Span(Source.STATS, None, stats)
    found: dict[str, tuple[float, Source]] = {}
    for name in _RUNNING:
        _keep(found, name, ((span.growth(name), span.source) for span in (parent, own, agent, engine)))
    for name in (*_LOCAL, *_EVENTS):
        _keep(found, name, _highest(_counted(name, parent, (own, agent, engine))))
    upper_bound = False
    for name in _PEAKS:
        bounded = _peak(found, name, (parent, own, agent))
        upper_bound = upper_bound or (bounded and name == "memory_peak_bytes")
        _keep(found, name, _seen(name, stats, samples, samples_source))
    for name, kind in _KINDS.items():
        _keep(found, name, _by_kind(kind, (own, agent, parent, engine), samples, samples_source))
    return _usage(found, reason, upper_bound=upper_bound, local=bool(kernel and kernel.events_are_local))


def _keep(
    found: dict[str, tuple[float, Source]], name: str, candidates: Iterator[tuple[float | None, Source]]
) -> None:
    """Store the first candidate that is known, unless a better one is stored already."""
    for value, source in candidates:
        if value is not None:
            found.setdefault(name, (value, source))
            return


def _counted(name: str, parent: _Span, others: tuple[_Span, ...]) -> Iterator[tuple[float | None, Source]]:
    """Candidates for a figure that may be counted in the container's cgroup only."""
    value = parent.growth(name)
    local = parent.end is not None and parent.end.events_are_local
    hierarchical = name in _EVENTS and not local
    if hierarchical and (value or name == "oom_kills"):  # before 6.11 a parent's 0 refused forks say nothing
        yield value, parent.source
    for span in others:
        yield span.growth(name), span.source


def _highest(
    candidates: Iterator[tuple[float | None, Source]],
) -> Iterator[tuple[float | None, Source]]:
    known = [(value, source) for value, source in candidates if value is not None]
    if known:
        yield max(known, key=lambda candidate: candidate[0])  # the first of equals: the better source


def _peak(found: dict[str, tuple[float, Source]], name: str, spans: tuple[_Span, ...]) -> bool:
    """Store a peak; True if it is only an upper bound: as high when the test began, by an earlier one."""
    known = [(last, span) for span in spans if (last := span.last(name)) is not None]
    for value, span in known:
        first = span.first(name)
        if first is None or value > first:
            found[name] = (value, span.source)
            return False
    if known:
        found[name] = min(((value, span.source) for value, span in known), key=lambda candidate: candidate[0])
    return bool(known)


def _seen(
    name: str, stats: Counters | None, samples: Sequence[Sample], samples_source: Source
) -> Iterator[tuple[float | None, Source]]:
    """Where the kernel's peak is not at hand: the engine's, else the highest that was seen now and then."""
    yield (None if stats is None else getattr(stats, name)), Source.STATS
    present = _PRESENT.get(name)
    if present is not None:
        values = [value for sample in samples if (value := getattr(sample, present)) is not None]
        yield max(values, default=None), samples_source
        yield (None if stats is None else getattr(stats, present)), Source.STATS


def _by_kind(
    kind: str, spans: tuple[_Span, ...], samples: Sequence[Sample], samples_source: Source
) -> Iterator[tuple[float | None, Source]]:
    """Highest reading of one kind of memory. A reading without anonymous memory is of a cgroup whose
    processes have ended: it says nothing of the test.
    """
    seen: list[tuple[float | None, Source]] = [
        (getattr(sample, kind), samples_source) for sample in samples if sample.anon_bytes
    ]
    seen += [(span.last(kind), span.source) for span in spans if span.last("anon_bytes")]
    yield from _highest(iter(seen))


def _usage(
    found: Mapping[str, tuple[float, Source]], reason: str | None, *, upper_bound: bool, local: bool
) -> Usage:
    figures = (*_RUNNING, *_LOCAL, *_EVENTS, *_PEAKS, *_KINDS)
    values = {name: value for name, (value, _) in found.items()}
    whole = {name: value if name.endswith("_seconds") else int(value) for name, value in values.items()}
    reasons = dict(_REASONS)
    reasons |= dict.fromkeys(_LOCAL, _LOCAL_REASON)
    if local:
        reasons |= dict.fromkeys(_EVENTS, _LOCAL_REASON)
        reasons["swap_peak_bytes"] = "cgroup v1 keeps no peak of swap"
    default = reason or "neither kernel, agent nor engine said it"
    return Usage(
        **whole,  # type: ignore[arg-type]  # the names are Usage's own, seconds float, the others int
        sources={name: source for name, (_, source) in found.items()},
        missing={name: reason or reasons.get(name, default) for name in figures if name not in found},
        memory_peak_is_upper_bound=upper_bound,
    )


# ---------------------------------------------------------------- the engine's stats


def parse_stats(reply: Mapping[str, object]) -> Counters:
    """Counters from one answer of the Engine's stats API, in the shapes it has on v1 and v2. What is missing,
    or is not what it should be, is None.
    """
    memory, stats = _part(reply, "memory_stats"), _part(reply, "memory_stats", "stats")
    cpu = _part(reply, "cpu_stats", "cpu_usage")
    throttling = _part(reply, "cpu_stats", "throttling_data")
    total = _nanoseconds(cpu, "total_usage")
    read_bytes, write_bytes = _stats_io(_part(reply, "blkio_stats").get("io_service_bytes_recursive"))
    return Counters(
        cpu_seconds=total,
        cpu_user_seconds=_nanoseconds(cpu, "usage_in_usermode"),
        cpu_system_seconds=_nanoseconds(cpu, "usage_in_kernelmode"),
        memory_bytes=_count(memory, "usage"),
        memory_peak_bytes=_count(memory, "max_usage"),
        anon_bytes=_count(stats, "anon", "total_rss", "rss"),
        file_bytes=_count(stats, "file", "total_cache", "cache"),
        shmem_bytes=_count(stats, "shmem", "total_shmem"),
        pids=_count(_part(reply, "pids_stats"), "current"),
        throttled_periods=_count(throttling, "throttled_periods") if total else None,
        throttled_seconds=_nanoseconds(throttling, "throttled_time") if total else None,
        read_bytes=read_bytes,
        write_bytes=write_bytes,
    )


def _part(reply: Mapping[str, object], *names: str) -> Mapping[str, object]:
    part: object = reply
    for name in names:
        part = part.get(name) if isinstance(part, dict) else None
    return part if isinstance(part, dict) else {}


def _count(part: Mapping[str, object], *names: str) -> int | None:
    """The first of these that is a count; the engine answers for a container that has ended with zeros or not
    at all, so a bool, a text or a negative number is None.
    """
    for name in names:
        value = part.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None


def _nanoseconds(part: Mapping[str, object], name: str) -> float | None:
    value = _count(part, name)
    return None if value is None else value / NANOSECONDS


def _stats_io(entries: object) -> tuple[int | None, int | None]:
    """Sums by operation: `Read`/`Write` on v1, `read`/`write` on v2. No entry: not counted."""
    sums: dict[str, int] = {}
    for entry in entries if isinstance(entries, list) else []:
        operation = str(_part({"entry": entry}, "entry").get("op", "")).lower()
        value = _count(_part({"entry": entry}, "entry"), "value")
        if value is not None:
            sums[operation] = sums.get(operation, 0) + value
    return sums.get("read"), sums.get("write")
