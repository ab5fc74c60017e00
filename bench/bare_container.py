"""Run a container with the engine's API alone: create, attach, start, wait, remove.

This is the least that a fresh container costs. It uses http.client on the engine's Unix socket, with one
connection for each thread, which is less work than the Docker SDK does for the same calls.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LABEL = "io.orch.bench"
"""The label of all containers that benchmarks create; its value is the token of one benchmark run."""
_CALL_SECONDS = 60.0
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class BareContainerError(Exception):
    """The engine refused a call, or a container did not do its work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BareRun:
    """What one container did."""

    phase_seconds: dict[str, float]
    """create, attach, start, test, wait, remove -> duration."""
    output: bytes
    exit_code: int | None
    """None: the end of the container was not waited for."""

    @property
    def seconds(self) -> float:
        """The time from creation to removal."""
        return sum(self.phase_seconds.values())


class BareEngine:
    """A client of a local engine that can be used by many threads."""

    def __init__(self, socket_path: str) -> None:
        self._path = socket_path
        self._local = threading.local()

    def run(self, config: Mapping[str, Any], *, attach: bool = True, wait: bool = True) -> BareRun:
        """Run a container from creation to removal. `config` is the body of the create call.

        Without `attach` the output is not read; without `wait` the container is removed while it runs. Raises
        BareContainerError if the engine refuses a call.
        """
        marks = [("", time.monotonic())]

        def mark(phase: str) -> None:
            marks.append((phase, time.monotonic()))

        output, code = b"", None
        container = self._call("POST", "/containers/create", config)["Id"]
        try:
            mark("create")
            stream = self._attach(container) if attach else None
            mark("attach")
            self._call("POST", f"/containers/{container}/start")
            mark("start")
            if stream is not None:
                with stream:
                    output = _read_all(stream)
            mark("test")
            if wait:
                code = self._call("POST", f"/containers/{container}/wait")["StatusCode"]
            mark("wait")
        finally:
            self._call("DELETE", f"/containers/{container}?v=1&force=1")
        mark("remove")
        phases = {name: after - before for (_, before), (name, after) in pairwise(marks)}
        return BareRun(phase_seconds=phases, output=output, exit_code=code)

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = _UnixConnection(self._path)
        payload = None if body is None else json.dumps(body)
        connection.request(method, path, body=payload, headers={"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise BareContainerError(f"{method} {path.partition('?')[0]}: {answer.status} {text[:300]!r}")
        return json.loads(text) if text else None

    def _attach(self, container: str) -> socket.socket:
        """Return the container's output stream, on a connection of its own, because the engine takes it over."""
        stream = socket.socket(socket.AF_UNIX)
        stream.settimeout(_CALL_SECONDS)
        stream.connect(self._path)
        stream.sendall(
            f"POST /containers/{container}/attach?stream=1&stdout=1&stderr=1 HTTP/1.1\r\n"
            "Host: engine\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            byte = stream.recv(1)  # byte by byte, because the output follows the head
            if not byte:
                raise BareContainerError(f"attach: the engine closed the connection after {head!r}")
            head += byte
        if b" 101 " not in head.split(b"\r\n", 1)[0]:
            raise BareContainerError(f"attach: {head!r}")
        return stream


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("engine", timeout=_CALL_SECONDS)
        self._socket_path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_CALL_SECONDS)
        self.sock.connect(self._socket_path)


def _read_all(stream: socket.socket) -> bytes:
    pieces = []
    while piece := stream.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def socket_path(address: str | None) -> str:
    """Return the path of a local engine's socket. Raises BareContainerError for a remote engine."""
    address = address or "unix:///var/run/docker.sock"
    if not address.startswith("unix://"):
        raise BareContainerError(f"only a local engine can be measured, not one at {address.partition(':')[0]}")
    return address.removeprefix("unix://")


def run_many(work: Callable[[int], object], count: int, threads: int) -> tuple[float, float]:
    """Call `work` with 0 to `count` - 1 in some threads; return the wall and CPU milliseconds of each call.

    The CPU time is that of the whole machine, or of one cgroup (see `busy_seconds`). Raises what `work` raises.
    """
    began, busy = time.monotonic(), busy_seconds()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, range(count)):
            pass
    return (time.monotonic() - began) * 1000 / count, (busy_seconds() - busy) * 1000 / count


def busy_seconds() -> float:
    """Return the CPU seconds used so far by the whole machine.

    With ORCH_BENCH_CPUACCT, the path of a `cpuacct.usage` file, those of that cgroup: if the engine is alone in
    it, other work on the machine is not counted.
    """
    cgroup_file = os.environ.get("ORCH_BENCH_CPUACCT")
    if cgroup_file:
        return int(Path(cgroup_file).read_text()) / 1e9
    with Path("/proc/stat").open() as file:
        fields = [int(field) for field in file.readline().split()[1:9]]
    idle, iowait = fields[3], fields[4]
    return (sum(fields) - idle - iowait) / _TICKS_PER_SECOND
