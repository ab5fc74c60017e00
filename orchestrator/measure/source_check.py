"""Checks that two sources of a figure agree, except for known differences. Pure.

What differs, measured on Docker 20.10, cgroup v1, kernel 6.18 (docs/design/measure/calibration.md): a parent
cgroup also counts the CPU time of the container's end (1 to 4 ms) and of packing its outputs (56 ms for 8 MB); 12
to 640 KiB of memory, because the kernel charges in batches; the processes that pack the outputs. A reader inside
lags by a scheduler tick for each CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from orchestrator.model.usage import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """The accepted difference of two sources: how much less and more the outer one may say than the inner one."""

    less: float
    more: float
    share: float = 0.0


TOLERANCES: Mapping[str, Tolerance] = {
    "cpu_seconds": Tolerance(less=0.010, more=0.050, share=0.02),
    "memory_peak_bytes": Tolerance(less=64 << 10, more=1 << 20, share=0.01),
    "pids_peak": Tolerance(less=0, more=3),
}
"""The tolerances between the parent cgroup and the agent's record."""
STATS_BEHIND: Mapping[str, float] = {"cpu_seconds": 0.010, "memory_peak_bytes": 64 << 10, "pids_peak": 0}
"""The tolerances for the engine's statistics. They are older than the last reading, so they may say less."""
SAMPLES_ABOVE = STATS_BEHIND

FREEING_SECONDS_PER_BYTE = 1e-9
"""The CPU time to free memory when the container ends, which the parent counts: 0.2 ms a MiB of tmpfs, here five
times that for a busy host.
"""

Readings = dict[str, float]
"""The field names of figures -> their values from one source."""


def disagreements(
    *, parent: Readings, agent: Readings, stats: Readings, samples: Sequence[Sample], archived: bool
) -> dict[str, str]:
    """Return the figures that disagree, by field name, each with a sentence.

    `archived` means that outputs were packed after the agent's last reading, at a cost that only the parent
    counted.
    """
    found: dict[str, str] = {}
    for name, text in _all(parent, agent, stats, samples, archived):
        found.setdefault(name, text)
    return found


def _all(
    parent: Readings, agent: Readings, stats: Readings, samples: Sequence[Sample], archived: bool
) -> Iterator[tuple[str, str]]:
    for name, slack in TOLERANCES.items():
        outer, inner = parent.get(name), agent.get(name)
        if outer is None or inner is None:
            continue
        more = slack.more + slack.share * inner
        if name == "cpu_seconds":
            more += FREEING_SECONDS_PER_BYTE * parent.get("memory_peak_bytes", 0)
        too_much = outer - inner > more and not (archived and name == "cpu_seconds")
        if too_much or inner - outer > slack.less + slack.share * inner:
            said = with_unit(name, outer), with_unit(name, inner)
            yield name, f"{said[0]} in the slot's parent cgroup, {said[1]} in the agent's record"
    best = {**agent, **parent}
    for name, above in STATS_BEHIND.items():
        if name in stats and name in best and stats[name] > best[name] + above:
            said = with_unit(name, stats[name]), with_unit(name, best[name])
            yield name, f"{said[0]} by the engine's statistics, {said[1]} by the kernel"
    for name, seen in _highest(samples):
        if name in best and seen > best[name] + SAMPLES_ABOVE[name]:
            yield name, f"{with_unit(name, seen)} in a sample, {with_unit(name, best[name])} at the end"


def _highest(samples: Sequence[Sample]) -> Iterator[tuple[str, float]]:
    fields = {"cpu_seconds": "cpu_seconds", "memory_peak_bytes": "memory_bytes", "pids_peak": "pids"}
    for name, field in fields.items():
        known = [value for sample in samples if (value := getattr(sample, field)) is not None]
        if known:
            yield name, max(known)


def with_unit(name: str, value: float) -> str:
    """Return a figure as text with its unit."""
    if name.endswith("_seconds"):
        return f"{value:.3f} s"
    return f"{value / 2**20:.2f} MiB" if name.endswith("_bytes") else f"{value:g}"
