"""Makes one `Usage` of several readings: each figure from its best source, or the reason why it is missing.

Rules, each from a measurement (see `counters`): running counters are differences between two readings of the
same cgroup. CPU time is the agent's where it has a record: its two readings enclose the test alone, while the
parent's second one includes the packing of outputs and the container's end. Peaks are the parent's if they rose
while the test ran. OOM kills and refused forks are the highest that any cgroup saw, because a parent on v1 does
not see its children's. Throttling is never the parent's.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING

from orchestrator.measure import source_check
from orchestrator.measure.counters import NANOSECONDS, Counters
from orchestrator.measure.figures import (
    CPU,
    EVENTS,
    IO,
    KINDS,
    MEMORY_CHARGED,
    MEMORY_FLOOR,
    MEMORY_PEAK,
    NO_IO_REASON,
    PAGE_CACHE,
    PEAKS,
    THROTTLING,
    make_usage,
    shared_reasons,
    shared_sources,
)
from orchestrator.measure.own_memory import OwnMemory, cache_of, own_memory
from orchestrator.model.usage import Source, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.model.usage import Sample

_PRESENT = {"memory_peak_bytes": "memory_bytes", "pids_peak": "pids"}
"""Peaks -> the field of a sample whose maximum stands in for them."""
_NO_SAMPLE_REASON = "no sample was taken while the test ran"
_FLOOR_REASON = "nothing was read when the test was released"
_CACHE_REASON = "memory was not read by its kinds before the test and after it"
_LOCAL_REASON = "it is counted in the container's own cgroup, which was gone before it could be read"
_SWAP_REASON = "cgroup v1 keeps no peak of swap"
_DEFAULT_REASON = "neither kernel, agent nor engine said it"
_REASONS = (
    *((name, _NO_SAMPLE_REASON) for name in KINDS),
    *((name, NO_IO_REASON) for name in IO),
    *((name, _LOCAL_REASON) for name in THROTTLING),
    (MEMORY_FLOOR, _FLOOR_REASON),
    (PAGE_CACHE, _CACHE_REASON),
)
_LOCAL_REASONS = (*_REASONS, *((name, _LOCAL_REASON) for name in EVENTS), ("swap_peak_bytes", _SWAP_REASON))
"""The reasons where the parent's cgroup does not count the events of its children."""
_EMPTY = Counters(anon_bytes=0, file_bytes=0, shmem_bytes=0)
"""A cgroup that was new when the test began."""

Candidate = tuple[float | None, Source]
Found = dict[str, tuple[float, Source]]
"""The field names of figures -> their values and sources."""


@dataclass(frozen=True, slots=True)
class _Span:
    """Two readings of one cgroup: at the test's start (None if it was new then) and at its end."""

    source: Source
    start: Counters | None
    end: Counters | None
    peak_reset: bool = False
    """True if the memory peak at the end began with the test; the one at the start is of what came before."""

    def last(self, name: str) -> float | None:
        return None if self.end is None else getattr(self.end, name)

    def first(self, name: str) -> float | None:
        return None if self.start is None else getattr(self.start, name)

    def risen(self, name: str) -> bool:
        """Return whether a peak at the end is the test's own."""
        first, last = self.first(name), self.last(name)
        if last is None or (name == "memory_peak_bytes" and self.peak_reset):
            return last is not None
        return first is None or last > first

    def growth(self, name: str) -> float | None:
        """Return the growth of a counter; None also if it shrank, because then the readings are of two cgroups."""
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
    peaks_reset: tuple[bool, bool] = (False, False),
    archived: bool = False,
) -> Usage:
    """Return the usage of a test. `kernel` and `kernel_start`: the slot's parent cgroup at the end and when the
    test was released (None: the parent was new). `container`: the last reading of the container's own cgroup, the
    one that the agent reads too. `samples` give the peaks by kind of memory, of which the kernel keeps none.
    `peaks_reset`: whether the memory peak of the parent, and of the container's own cgroup, began with the test.
    `reason`: why a figure without any source is missing, if the caller knows better. `archived`: outputs were
    packed after the test.
    """
    parent = _Span(Source.KERNEL, kernel_start, kernel, peaks_reset[0])
    own = _Span(Source.KERNEL, agent_start, container, peaks_reset[1])
    agent = _Span(Source.AGENT, agent_start, agent_end, peaks_reset[1])
    engine = _Span(Source.STATS, agent_start, stats)
    # what has no reading at the end says nothing: in a reused slot two of the four do
    cpu, running, inside = (
        tuple(span for span in spans if span.end is not None)
        for spans in ((agent, parent, own, engine), (parent, own, agent, engine), (own, agent, engine))
    )
    found: Found = {}
    for name in CPU:
        _keep_growth(found, name, cpu)
    for name in IO:
        _keep_growth(found, name, running)
    for name in (*THROTTLING, *EVENTS):
        _keep_highest(found, name, _counted(name, parent, inside))
    peaked = tuple(span for span in (parent, own, agent) if span.end is not None)
    upper_bounds = [name for name in PEAKS if _peak(found, name, peaked)]
    for name in PEAKS:
        if name not in found:
            _keep_seen(found, name, stats, samples, samples_source)
    own_memory = _keep_own(found, parent, agent, samples, risen=MEMORY_PEAK not in upper_bounds)
    if own_memory is not None and own_memory.at_most and MEMORY_PEAK not in upper_bounds:
        upper_bounds.append(MEMORY_PEAK)
    for name, kind in KINDS.items():
        _keep_highest(found, name, _by_kind(kind, running, samples, samples_source))
    return _usage(
        found,
        reason,
        local=kernel is not None and kernel.events_are_local,
        upper_bounds=tuple(upper_bounds),
        lower_bound=own_memory is not None and own_memory.at_least,
        disagreements=source_check.disagreements(
            parent=_comparable(parent),
            agent=_comparable(agent),
            stats=_comparable(engine),
            samples=samples if samples_source is Source.KERNEL else (),
            archived=archived,
        ),
        before_test=_before(parent, agent),
    )


def not_measured(reason: str) -> Usage:
    """Return the usage of a test that did not run, with a reason for every figure."""
    return _usage({}, reason, local=False)


def _comparable(span: _Span) -> dict[str, float]:
    """Return a source's figures for the comparison, without peaks that may be of what came before the test."""
    if span.end is None:
        return {}
    found = {"cpu_seconds": span.growth("cpu_seconds")}
    for name in ("memory_peak_bytes", "pids_peak"):
        found[name] = span.last(name) if span.risen(name) else None
    return {name: value for name, value in found.items() if value is not None}


def _before(*spans: _Span) -> dict[str, float]:
    """Return what was counted before the test was released, from the best source."""
    found: dict[str, float] = {}
    for name in ("cpu_seconds", "memory_peak_bytes", "pids_peak"):
        for span in spans:
            value = span.first(name)
            if value is not None:
                found[name] = value
                break
    return found


def _keep_growth(found: Found, name: str, spans: tuple[_Span, ...]) -> None:
    """Store a counter's growth by the first source that has it."""
    for span in spans:
        value = span.growth(name)
        if value is not None:
            found[name] = (value, span.source)
            return


def _counted(name: str, parent: _Span, inside: tuple[_Span, ...]) -> list[Candidate]:
    """Return the candidates for a figure that may be counted in the container's cgroup only."""
    candidates: list[Candidate] = [(span.growth(name), span.source) for span in inside]
    hierarchical = name in EVENTS and not (parent.end is not None and parent.end.events_are_local)
    if hierarchical:
        value = parent.growth(name)
        if value or name == "oom_kills":  # before 6.11 a parent's 0 refused forks say nothing
            candidates.insert(0, (value, parent.source))
    return candidates


def _keep_highest(found: Found, name: str, candidates: list[Candidate]) -> None:
    """Store the highest candidate; of equal ones the first, which has the better source."""
    best: float | None = None
    for value, source in candidates:
        if value is not None and (best is None or value > best):
            best = value
            found[name] = (value, source)


def _peak(found: Found, name: str, spans: tuple[_Span, ...]) -> bool:
    """Store a peak, and return whether it is only an upper bound, already reached when the test began."""
    known = [(last, span) for span in spans if (last := span.last(name)) is not None]
    for value, span in known:
        if span.risen(name):
            found[name] = (value, span.source)
            return False
    if known:
        found[name] = min(((value, span.source) for value, span in known), key=itemgetter(0))
    return bool(known)


def _keep_seen(
    found: Found, name: str, stats: Counters | None, samples: Sequence[Sample], samples_source: Source
) -> None:
    """Store a peak without the kernel's: the engine's, or else the highest of the samples."""
    candidates: list[Candidate] = [(None if stats is None else getattr(stats, name), Source.STATS)]
    present = _PRESENT.get(name)
    if present is not None:
        values = [value for sample in samples if (value := getattr(sample, present)) is not None]
        candidates.append((max(values, default=None), samples_source))
        candidates.append((None if stats is None else getattr(stats, present), Source.STATS))
    for value, source in candidates:
        if value is not None:
            found[name] = (value, source)
            return


def _keep_own(
    found: Found, parent: _Span, agent: _Span, samples: Sequence[Sample], *, risen: bool
) -> OwnMemory | None:
    """Store what was charged in all, the floor at the release, and what the test needed beyond that.

    `risen` says that the peak is the test's own. The floor is read a moment before the peak begins, and memory of
    the runtime's start is given back late, so that it may be above the peak; then the peak is it.
    """
    inside, outside = agent.first("memory_bytes"), parent.first("memory_bytes")
    charged = found.get(MEMORY_PEAK)
    by_agent = charged is not None and charged[1] is Source.AGENT
    first, second = ((inside, agent.source), (outside, parent.source))[:: 1 if by_agent else -1]
    floor = first if first[0] is not None else second
    if floor[0] is not None:
        found[MEMORY_FLOOR] = (floor[0] if charged is None else min(charged[0], floor[0]), floor[1])
    if charged is None:
        return None
    if floor[0] is None and parent.end is not None and parent.start is None:
        floor = (0, parent.source)  # all that was ever charged to it was while the test ran
    before, after = _kinds_around(parent, agent, samples)
    own = own_memory(
        floor_bytes=None if floor[0] is None else int(floor[0]),
        peak=int(charged[0]),
        peak_at_least=None if risen else 0,
        before=before,
        after=after,
        samples=samples,
    )
    found[MEMORY_CHARGED], found[MEMORY_PEAK] = charged, (own.memory_bytes, charged[1])
    if own.cache_bytes is not None:
        found[PAGE_CACHE] = (own.cache_bytes, parent.source)
    return own


def _kinds_around(
    parent: _Span, agent: _Span, samples: Sequence[Sample]
) -> tuple[Counters | Sample, Counters | Sample]:
    """Return readings of the kinds of memory at the start and at the end, of one cgroup."""
    for span in (parent, agent):
        unread = _EMPTY if span is parent else Counters()
        start, end = span.start or unread, span.end or Counters()
        if cache_of(start) is not None and cache_of(end) is not None:
            return start, end
    known = [sample for sample in samples if cache_of(sample) is not None]
    return (known[0], known[-1]) if known else (Counters(), Counters())


def _by_kind(
    kind: str, spans: tuple[_Span, ...], samples: Sequence[Sample], samples_source: Source
) -> list[Candidate]:
    """Return the readings of one kind of memory.

    A reading without anonymous memory is ignored: the cgroup's processes had ended.
    """
    seen: list[Candidate] = [(getattr(sample, kind), samples_source) for sample in samples if sample.anon_bytes]
    seen += [(span.last(kind), span.source) for span in spans if span.last("anon_bytes")]
    return seen


def _usage(
    found: Found,
    reason: str | None,
    *,
    local: bool,
    upper_bounds: tuple[str, ...] = (),
    lower_bound: bool = False,
    disagreements: Mapping[str, str] | None = None,
    before_test: Mapping[str, float] | None = None,
) -> Usage:
    """Return the usage with what was found, and why the rest is missing: `reason`, if there is one for all.

    `local`: the parent's cgroup does not count the events of its children.
    """
    reasons = () if reason else _LOCAL_REASONS if local else _REASONS
    return make_usage(
        {name: value for name, (value, _) in found.items()},
        sources=shared_sources(tuple([(name, source) for name, (_, source) in found.items()])),
        missing=shared_reasons(tuple(found), reasons, reason or _DEFAULT_REASON),
        upper_bounds=upper_bounds,
        lower_bound=lower_bound,
        disagreements=disagreements or {},
        before_test=before_test or {},
    )


# ---------------------------------------------------------------- the engine's stats


_NEVER = "0001-01-01"
"""The engine's time of reading for a container that does not run, whose zeros are no figures."""


def parse_stats(reply: Mapping[str, object]) -> Counters:
    """Return counters from one answer of the engine's stats API, in its forms on v1 and v2.

    What is missing or invalid is None.
    """
    if str(reply.get("read", "")).startswith(_NEVER):
        return Counters()
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
    """Return the first of these fields that is a count; a bool, a text or a negative number is none."""
    for name in names:
        value = part.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None


def _nanoseconds(part: Mapping[str, object], name: str) -> float | None:
    value = _count(part, name)
    return None if value is None else value / NANOSECONDS


def _stats_io(entries: object) -> tuple[int | None, int | None]:
    """Return the bytes read and written: `Read`/`Write` on v1, `read`/`write` on v2; None if there is no entry."""
    sums: dict[str, int] = {}
    for entry in entries if isinstance(entries, list) else []:
        operation = str(_part({"entry": entry}, "entry").get("op", "")).lower()
        value = _count(_part({"entry": entry}, "entry"), "value")
        if value is not None:
            sums[operation] = sums.get(operation, 0) + value
    return sums.get("read"), sums.get("write")
