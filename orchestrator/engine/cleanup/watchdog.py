"""The process that outlives orch: waits at the end of a pipe, and removes what a dead run left.

    python -m orchestrator.engine.cleanup.watchdog ADDRESS RUN_ID WORK_DIR  <pipe

"done" on the pipe: the run has cleaned up itself. End of the pipe without it: orch is dead. A call that it
had under way may still take effect in the engine, so the sweep is repeated until nothing has come for a while.
Imports nothing of the engine before it is needed: it must cost nothing while all goes well.
"""

from __future__ import annotations

import os
import signal
import sys
import time

QUIET_SECONDS = 4.0
"""No new object for so long: the last call of the dead orch has taken effect."""
LIMIT_SECONDS = 120.0
PAUSE_SECONDS = 0.25


def main(argv: list[str]) -> int:
    """Wait, and sweep if need be."""
    address, run_id, work_dir = argv
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it goes when the run goes
    if _read_all(sys.stdin.fileno()).endswith(b"done\n"):
        return 0
    sweep_until_quiet(address, run_id, work_dir)
    return 0


def _read_all(descriptor: int) -> bytes:
    seen = b""
    while data := os.read(descriptor, 64):
        seen += data
    return seen


def sweep_until_quiet(address: str, run_id: str, work_dir: str) -> None:
    """Remove until nothing has been found for a while; an engine that is down is tried again."""
    from orchestrator.engine.cleanup.reaper import sweep_run
    from orchestrator.engine.docker.engine import open_engine
    from orchestrator.errors import EngineError

    began = last_found = time.monotonic()
    engine = None
    while time.monotonic() - began < LIMIT_SECONDS and time.monotonic() - last_found < QUIET_SECONDS:
        try:
            engine = engine or open_engine(address)
            swept = sweep_run(engine, run_id, work_dir=work_dir)
            if swept.removed or swept.left:
                last_found = time.monotonic()
        except EngineError:
            engine, last_found = None, time.monotonic()
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
