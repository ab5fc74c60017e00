"""The machine that measurements were made on, without its name."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.measure.cgroups import detect_version
from orchestrator.measure.processes import host_info


def describe() -> dict[str, Any]:
    """Return properties of hardware and kernel."""
    host = host_info()
    return {
        "architecture": platform.machine(),
        "processor": _processor(),
        "cpus": host.cpus,
        "memory_bytes": host.memory_bytes,
        "kernel": host.kernel,
        "cgroup_version": detect_version(),
        "huge_pages": _first_line("/sys/kernel/mm/transparent_hugepage/enabled"),
        "python": host.python,
        "user": "root" if os.geteuid() == 0 else "an ordinary user",
    }


def load() -> dict[str, Any]:
    """Return the current load averages and the time."""
    return {"at": datetime.now(UTC).isoformat(timespec="seconds"), "load": [round(n, 2) for n in os.getloadavg()]}


def _processor() -> str:
    for line in _text("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return "unknown"


def _first_line(path: str) -> str | None:
    return next(iter(_text(path).splitlines()), None)


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
