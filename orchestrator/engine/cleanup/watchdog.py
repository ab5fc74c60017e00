"""The watchdog process, which waits at the end of a pipe and removes the objects of a run whose orch was killed.

    python -m orchestrator.engine.cleanup.watchdog ADDRESS RUN_ID WORK_DIR  <pipe

If orch writes "done" to the pipe, the run has cleaned up itself. If the pipe ends without it, orch is dead. A
request that was under way may still take effect in the engine, so the clean-up is repeated until no new object has
appeared for a while. Engine modules are imported only then, because the watchdog runs beside every run.
"""

from __future__ import annotations

import os
import signal
import sys
import time

QUIET_SECONDS = 4.0
"""The time without a new object after which the last request of the dead orch has surely taken effect."""
LIMIT_SECONDS = 120.0
PAUSE_SECONDS = 0.25


def main(argv: list[str]) -> int:
    """Wait for the end of the pipe, and clean up if the run has not; return the exit code 0."""
    address, run_id, work_dir = argv
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with the run, not before
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
    """Remove the run's objects until none has been found for `QUIET_SECONDS`; retry an engine that is away."""
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
