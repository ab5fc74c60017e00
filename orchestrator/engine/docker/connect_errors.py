"""Reads the timeouts for connecting to an engine, and makes the error for an engine that does not answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.errors import EngineUnavailableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

CONNECT_SECONDS = 2.0
"""The timeout of the first request; ORCH_CONNECT_SECONDS overrides it.

A working socket answers at once, and a wrong address must not hold a user up. Podman starts three programs to
report its version, which takes 3 s on an emulated machine.
"""
AWAY_SECONDS = 300.0
"""The time that a run waits for an engine that went away; ORCH_ENGINE_AWAY_SECONDS overrides it.

An upgrade restarts an engine in seconds; a machine that swaps may take minutes.
"""
AWAY_VARIABLE = "ORCH_ENGINE_AWAY_SECONDS"
START_ENGINE = "start Docker or Podman (systemctl start docker), or install docker.io or podman"
"""The remedy where no engine runs. It names no script, because an installed orch has none."""


def connect_seconds(env: Mapping[str, str]) -> float:
    """Return the timeout of the first request in seconds. Raises EngineUnavailableError if it is no number."""
    try:
        return max(0.1, float(env.get("ORCH_CONNECT_SECONDS", CONNECT_SECONDS)))
    except ValueError as error:
        raise EngineUnavailableError(f"ORCH_CONNECT_SECONDS is no number of seconds: {error}") from error


def away_seconds(env: Mapping[str, str]) -> float:
    """Return how many seconds a run waits for an engine that went away. Raises UsageError if it is no number."""
    text = env.get(AWAY_VARIABLE, "")
    try:
        return max(0.0, float(text or AWAY_SECONDS))
    except ValueError as error:
        raise UsageError(f"{AWAY_VARIABLE} is no number of seconds: {text}") from error


def no_engine(address: str, error: BaseException) -> EngineUnavailableError:
    """Return the exception for an engine whose first request failed with `error`."""
    return EngineUnavailableError(f"no engine answers at {address}: {_cause(error)}", remedy=_remedy(error))


def _root_cause(error: BaseException) -> BaseException:
    seen = error
    for _ in range(20):
        inner = (
            seen.__cause__
            or seen.__context__
            or next((a for a in seen.args if isinstance(a, BaseException)), None)
        )
        if inner is None:
            break
        seen = inner
    return seen


def _cause(error: BaseException) -> str:
    root = _root_cause(error)
    text = root.strerror if isinstance(root, OSError) and root.strerror else str(root) or type(root).__name__
    return " ".join(text.split())[:300]  # another program may answer at this address, with any text


def _remedy(error: BaseException) -> str:
    root = _root_cause(error)
    if isinstance(root, PermissionError):
        return (
            "your user may not use the socket: add it to the docker group and log in again, or use rootless Podman"
        )
    if isinstance(root, FileNotFoundError | ConnectionRefusedError):
        return START_ENGINE
    if isinstance(root, TimeoutError):
        return (
            f"see whether it works at all; if it is only slow, set ORCH_CONNECT_SECONDS (now {CONNECT_SECONDS:g})"
        )
    return "check DOCKER_HOST and --engine; orch doctor tells more"
