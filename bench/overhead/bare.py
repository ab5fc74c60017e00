"""The bare way to run a test in a fresh container: five calls of the engine's API, with nothing around them.

The settings are those that orch gives, without its agent, streams and measurement. http.client over the unix
socket, a connection for each thread: less work than the Docker SDK does for the same calls.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from bench.overhead.comparing import RowError, Timing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

LABEL = "io.orch.bench"
_CALL_SECONDS = 60.0


class BareEngine:
    """Creates, attaches, starts, waits and removes."""

    def __init__(self, socket_path: str) -> None:
        self._path = socket_path
        self._local = threading.local()

    def run(self, config: Mapping[str, Any]) -> float:
        """One container from creation to removal; seconds. RowError: an unexpected answer or exit code."""
        began = time.monotonic()
        made = self._call("POST", "/containers/create", config)["Id"]
        try:
            with self._attach(made) as stream:
                self._call("POST", f"/containers/{made}/start")
                output = _read_all(stream)
            code = self._call("POST", f"/containers/{made}/wait")["StatusCode"]
        finally:
            self._call("DELETE", f"/containers/{made}?v=1")
        if code != 0 or b"ok " not in output:
            raise RowError(f"a container of the bare sequence ended with {code}, and wrote {output[-200:]!r}")
        return time.monotonic() - began

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = _Connection(self._path)
        payload = None if body is None else json.dumps(body)
        connection.request(method, path, body=payload, headers={"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RowError(f"{method} {path.partition('?')[0]}: {answer.status} {text[:300]!r}")
        return json.loads(text) if text else None

    def _attach(self, container: str) -> socket.socket:
        """The container's output, on a connection of its own: the engine takes the connection over."""
        stream = socket.socket(socket.AF_UNIX)
        stream.settimeout(_CALL_SECONDS)
        stream.connect(self._path)
        stream.sendall(
            f"POST /containers/{container}/attach?stream=1&stdout=1&stderr=1 HTTP/1.1\r\n"
            "Host: engine\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            piece = stream.recv(1)  # no byte beyond the head: the output follows
            if not piece:
                raise RowError(f"attaching: the engine ended the connection after {head!r}")
            head += piece
        if b" 101 " not in head.split(b"\r\n", 1)[0]:
            raise RowError(f"attaching: {head!r}")
        return stream


class _Connection(http.client.HTTPConnection):
    """HTTP over the engine's socket."""

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


def run_all(engine: BareEngine, configs: Sequence[Mapping[str, Any]], at_once: int, contender: str) -> Timing:
    """All of them, so many at once. RowError of the first that went wrong."""
    load = os.getloadavg()[0]
    before = time.process_time()
    began = time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        seconds = list(pool.map(engine.run, configs))
    return Timing(
        contender=contender,
        round=0,
        wall_seconds=time.monotonic() - began,
        cpu_seconds=time.process_time() - before,
        load=load,
        notes={"at_once": at_once, "median_container_seconds": sorted(seconds)[len(seconds) // 2]},
    )


def docker_run_words(config: Mapping[str, Any], token: str, seccomp: Path) -> list[str]:
    """`docker run --rm` with the same settings; the test's path follows."""
    host = config["HostConfig"]
    mount = host["Mounts"][0]
    words = ["docker", "run", "--rm", f"--label={LABEL}={token}", f"--user={config['User']}"]
    words += [f"--workdir={config['WorkingDir']}", "--read-only", f"--network={host['NetworkMode']}"]
    words += [f"--memory={host['Memory']}", f"--memory-swap={host['MemorySwap']}"]
    words += [f"--cpus={host['NanoCpus'] / 1e9:g}", f"--pids-limit={host['PidsLimit']}"]
    words += [f"--shm-size={host['ShmSize']}", "--ipc=private", "--cap-drop=ALL"]
    words += ["--security-opt=no-new-privileges", f"--security-opt=seccomp={seccomp}", "--no-healthcheck"]
    words += [f"--log-driver={host['LogConfig']['Type']}", f"--hostname={config['Hostname']}"]
    words += [f"--ulimit={u['Name']}={u['Soft']}:{u['Hard']}" for u in host["Ulimits"]]
    words += [f"--tmpfs={place}:{options}" for place, options in host["Tmpfs"].items()]
    words += [f"--volume={mount['Source']}:{mount['Target']}:ro"]
    words += [f"--env={variable}" for variable in config["Env"]]
    return [*words, "--entrypoint=sh", config["Image"]]
