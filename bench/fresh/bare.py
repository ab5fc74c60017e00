"""The bare API sequence: create, attach, start, read to the end, wait, remove, and nothing else."""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.engine.docker.http import ConnectionPool, EngineApi, connector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOCKET = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
API = "1.41"
LABEL = "io.orch-bench.pid"
TICK = os.sysconf("SC_CLK_TCK")


def busy_seconds() -> float:
    """CPU seconds of the engine, if ORCH_BENCH_CPUACCT names the `cpuacct.usage` of a cgroup that it is in with
    nothing else; other work on the machine does not count then. Else those of the whole machine.
    """
    alone = os.environ.get("ORCH_BENCH_CPUACCT")
    if alone:
        return int(Path(alone).read_text()) / 1e9
    with Path("/proc/stat").open() as file:
        fields = [int(field) for field in file.readline().split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICK


class Bare:
    """One container after another on any thread; keeps how long each call took, in milliseconds."""

    def __init__(self) -> None:
        self._calls = EngineApi(ConnectionPool(connector(f"unix://{SOCKET}", {})), API)
        self.phases: dict[str, list[float]] = defaultdict(list)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return self._calls.call(f"{method} {path[:40]}", method, path, body=body, timeout_seconds=60)

    def attach(self, container: str) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(SOCKET)
        connection.settimeout(60)
        connection.sendall(
            f"POST /v{API}/containers/{container}/attach?stream=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: x\r\n"
            "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n".encode()
        )
        seen = b""
        while b"\r\n\r\n" not in seen:
            seen += connection.recv(4096)
        return connection

    def one(self, config: dict[str, Any], *, attach: bool = True, wait: bool = True) -> None:
        marks = [("", time.monotonic())]
        config = {**config, "Labels": {LABEL: str(os.getpid())}}
        made = self.call("POST", f"/containers/create?name=orch-bench-{uuid.uuid4().hex[:12]}", config)["Id"]
        try:
            marks.append(("create", time.monotonic()))
            stream = self.attach(made) if attach else None
            marks.append(("attach", time.monotonic()))
            self.call("POST", f"/containers/{made}/start")
            marks.append(("start", time.monotonic()))
            if stream is not None:
                while stream.recv(1 << 16):
                    pass
                stream.close()
            marks.append(("test", time.monotonic()))
            if wait:
                self.call("POST", f"/containers/{made}/wait")
            marks.append(("wait", time.monotonic()))
        finally:
            self.call("DELETE", f"/containers/{made}?v=1&force=1")
        marks.append(("remove", time.monotonic()))
        for (_, before), (name, after) in pairwise(marks):
            self.phases[name].append((after - before) * 1000)
        self.phases["total"].append((marks[-1][1] - marks[0][1]) * 1000)


def in_threads(work: Callable[[int], None], count: int, threads: int) -> tuple[float, float]:
    """Call `work` with 0 to `count` - 1; (wall, CPU of the machine) in milliseconds for each."""
    numbers: Iterator[int] = iter(range(count))
    lock = threading.Lock()

    problems: list[Exception] = []

    def lane() -> None:
        try:
            while not problems:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                work(number)
        except Exception as error:  # noqa: BLE001 - raised below, in the thread that asked
            problems.append(error)

    began, busy = time.monotonic(), busy_seconds()
    lanes = [threading.Thread(target=lane) for _ in range(threads)]
    for thread in lanes:
        thread.start()
    for thread in lanes:
        thread.join()
    if problems:
        raise problems[0]
    return (time.monotonic() - began) * 1000 / count, (busy_seconds() - busy) * 1000 / count
