"""Lowers figures that are part of another to at most that one, as they may come from different sources. Pure."""

from __future__ import annotations

from collections.abc import MutableMapping

Figures = MutableMapping[str, float]
"""Names of Usage's fields -> values; what was not measured is absent."""

_WHOLES = ("memory_charged_peak_bytes", "memory_peak_bytes")
"""The figures for all memory charged at once; the first that is known counts."""
_OF_MEMORY = ("memory_floor_bytes", "memory_peak_bytes", "page_cache_bytes",
              "anon_peak_bytes", "file_peak_bytes", "shmem_peak_bytes")  # fmt: skip


def cap_parts(figures: Figures) -> None:
    """Lower the figures that exceed what they are part of.

    CPU time in user mode and in the kernel is lowered by the same share, because their total is the better figure.
    Kinds of memory are lowered because samples may be of a moment before the peak began. Shared memory is part of
    what the kernel counts as memory of files.
    """
    _keep_cpu_within(figures)
    whole = next((figures[name] for name in _WHOLES if name in figures), None)
    if whole is not None:
        for name in _OF_MEMORY:
            if name in figures and figures[name] > whole:
                figures[name] = whole
    file, shmem = figures.get("file_peak_bytes"), figures.get("shmem_peak_bytes")
    if file is not None and shmem is not None and shmem > file:
        figures["shmem_peak_bytes"] = file


def _keep_cpu_within(figures: Figures) -> None:
    total = figures.get("cpu_seconds")
    known = [name for name in ("cpu_user_seconds", "cpu_system_seconds") if name in figures]
    together = sum(figures[name] for name in known)
    if total is None or together <= total:
        return
    first, *others = known
    figures[first] *= total / together
    for name in others:  # the rest, so that no rounding makes them more than the total
        figures[name] = max(0.0, total - figures[first])
