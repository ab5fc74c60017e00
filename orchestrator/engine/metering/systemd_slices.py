"""Stops the systemd slices that slots ran in.

systemd owns the cgroup of a slice: after `rmdir` of the cgroup the unit stays loaded and active, so it has to be
stopped by systemd itself (docs/design/engine/cgroups.md).
"""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

BOOTED = Path("/run/systemd/system")
"""A folder that exists if systemd is the init system, according to sd_booted(3)."""
STOP_SECONDS = 30.0


def stop_slices(names: Iterable[str]) -> None:
    """Ask systemd to stop these slice units and their processes, without waiting until they have stopped.

    Errors are ignored: the caller checks by the cgroup whether the slice is gone.
    """
    wanted = sorted(names)
    if not wanted:
        return
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            ["systemctl", "--quiet", "--no-block", "stop", *wanted],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=STOP_SECONDS,
        )
