"""Operates a real engine, Docker or Podman, by its HTTP API.

Every request has a timeout, and every error is raised as one of `orchestrator.errors`. Requests with JSON answers
go through `http.EngineApi`; attached streams and most image operations go through the Docker SDK (`sdk.py`).
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from orchestrator.engine import labels
from orchestrator.engine.base import FoundObject
from orchestrator.engine.docker.addresses import candidate_addresses
from orchestrator.engine.docker.attach import AttachChannel
from orchestrator.engine.docker.connect_errors import START_ENGINE, connect_seconds, no_engine
from orchestrator.engine.docker.http import CALL_SECONDS, EngineApi, connector, open_api
from orchestrator.engine.docker.images import DockerImages
from orchestrator.engine.docker.inspected_settings import text_digest
from orchestrator.engine.docker.messages import container_config, describe, for_podman, inspection
from orchestrator.engine.docker.network_namespace import has_own_network
from orchestrator.errors import (
    ConflictError,
    EngineError,
    EngineTimeoutError,
    EngineUnavailableError,
    NoShellError,
    NotFoundError,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from orchestrator.engine.base import Channel, ContainerSpec, Engine, EventStream, Inspection, StatsStream
    from orchestrator.model.runs import EngineInfo

REMOVE_SECONDS = 30.0
HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
"""The text of /etc/hosts for containers in which the engine writes none."""


def open_engine(url: str | None = None, env: Mapping[str, str] | None = None) -> Engine:
    """Connect to the first engine that answers, at `url` or a candidate address.

    `env` has the environment variables that name engines, by default this process's own. Raises
    EngineUnavailableError with the first address's problem if none answers.
    """
    env = os.environ if env is None else env
    addresses = candidate_addresses(url, env)
    if not addresses:
        raise EngineUnavailableError(
            "no container engine found: DOCKER_HOST is not set and there is no Docker or Podman socket",
            remedy=START_ENGINE,
        )
    problems = []
    for address in addresses:
        try:
            return DockerEngine(address, env)
        except EngineUnavailableError as error:
            problems.append(error)
    raise problems[0]


class DockerEngine(DockerImages):
    """An engine at a unix:// or tcp:// address; DOCKER_TLS_VERIFY and DOCKER_CERT_PATH configure TLS."""

    def __init__(self, address: str, env: Mapping[str, str]) -> None:
        self._address = address
        self._env = dict(env)
        self._sdk: Any = None
        self._sdk_lock = threading.Lock()
        self._api, version = self._connected()
        try:
            info = self._call("reading the engine's description", "GET", "/info")
            self._info = describe(address, info, version)
        except EngineError:
            self.close()
            raise
        self._own_network: bool | None = None  # whether containers without network set-up are isolated, if known
        self._unchecked: set[str] = set()  # ids of created containers whose network is checked at their start

    def _connected(self) -> tuple[EngineApi, Mapping[str, Any]]:
        """Return the engine's API and its answer to `/version`. Raises EngineUnavailableError."""
        try:
            connect = connector(self._address, self._env)
        except OSError as error:
            raise EngineUnavailableError(
                f"cannot read the TLS certificates for {self._address}: {error}",
                remedy="set DOCKER_CERT_PATH to the folder of ca.pem, cert.pem and key.pem",
            ) from error
        except ValueError as error:
            raise no_engine(self._address, error) from error
        try:
            return open_api(connect, connect_seconds(self._env))
        except EngineError as error:
            raise no_engine(self._address, error) from error

    @property
    def _client(self) -> Any:
        """The SDK's client, connected at the first use."""
        from orchestrator.engine.docker.sdk import connect

        with self._sdk_lock:
            if self._sdk is None:
                self._sdk = connect(self._address, self._env)
            return self._sdk

    def _call(
        self,
        doing: str,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        timeout_seconds: float = CALL_SECONDS,
    ) -> Any:
        """Send a request by `EngineApi.call`, and return the parsed answer."""
        return self._api.call(doing, method, path, body=body, timeout_seconds=timeout_seconds)

    @property
    def info(self) -> EngineInfo:
        """The engine's version and abilities, read once when it was opened."""
        return self._info

    def close(self) -> None:
        """Close the connections."""
        self._api.close()
        if self._sdk is not None:
            self._sdk.close()

    def ping(self, timeout_seconds: float) -> None:
        """Raise EngineUnavailableError if the engine does not answer within the time."""
        self._api.ping(timeout_seconds)

    def events(self, labels: Mapping[str, str], kinds: tuple[str, ...], since: float) -> EventStream:
        """Return a stream of the events `kinds` of containers with these labels, from `since` (epoch seconds).

        Raises EngineError; also for an address that is no Unix socket, because a broken network connection could
        not be told from an engine that ended.
        """
        if not self._address.startswith("unix://"):
            raise EngineError("following the engine's events: only over a Unix socket")
        wanted = {
            "type": ["container"],
            "label": [f"{key}={value}" for key, value in labels.items()],
            "event": list(kinds),
        }
        path = f"/events?since={since:.9f}&filters={quote(json.dumps(wanted))}"
        return self._api.stream("following the engine's events", path, timeout_seconds=None)

    # ------------------------------------------------------------ containers

    def create(self, spec: ContainerSpec) -> str:
        """Create a container without starting it; return its id. Raises ConflictError if the name is taken."""
        if self._info.name == "podman":
            config = for_podman(container_config(spec), _seccomp_file(spec))
        else:
            config = container_config(spec, hosts_file=self._hosts_file(spec))
        doing = f"creating container {spec.name}"
        reply = self._call(doing, "POST", f"/containers/create?name={quote(spec.name)}", body=config)
        if config.get("NetworkDisabled") and not self._own_network:
            self._unchecked.add(str(reply["Id"]))
        return str(reply["Id"])

    def _hosts_file(self, spec: ContainerSpec) -> Path | None:
        """Return the file to mount as /etc/hosts in a container without the engine's network set-up.

        Return None if the engine has to set the network up: the container has a network, the engine does not share
        this machine's files, or such containers turned out not to be isolated.
        """
        work_dir = spec.labels.get(labels.WORK_DIR)
        if spec.network != "none" or not self._info.local or self._own_network is False:
            return None
        if work_dir is None or not Path(work_dir).is_dir():
            return None
        return _write_run_file(Path(work_dir), "hosts", HOSTS)

    def attach(self, container: str) -> Channel:
        """Attach to the three streams of a created container, before it is started."""
        with self._translated(f"attaching to {container[:12]}"):
            stream = self._client.attach_socket(
                container, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            )
        raw = cast("socket.socket", getattr(stream, "_sock", stream))
        return AttachChannel(raw, keep=stream)

    def start(self, container: str) -> None:
        """Start a created container. Raises NoShellError if its program is /bin/sh and the image has none."""
        try:
            self._call(f"starting {container[:12]}", "POST", f"/containers/{quote(container)}/start")
        except EngineError as error:
            # runc and crun report it with different texts
            if "/bin/sh" in error.message and "no such file" in error.message.lower():
                raise NoShellError(error.message) from error
            raise
        if container in self._unchecked:
            self._unchecked.discard(container)
            self._check_own_network(container)

    def _check_own_network(self, container: str) -> None:
        """Check that a started container without network set-up has a network namespace of its own.

        If that cannot be determined, the engine sets up the network of later containers. A container that sees
        this machine's network is killed, and EngineError is raised.
        """
        seen = self.inspect(container)
        if seen.pid is None:
            return  # it has ended already; the next container is checked instead
        own = has_own_network(container, seen.pid)
        if own is None and self.inspect(container).state.status != "running":
            return
        self._own_network = own is True
        if own is False:
            self.kill(container)
            raise EngineError(f"container {container[:12]} came up with this machine's network")

    def inspect(self, container: str) -> Inspection:
        """Return the container's state and settings. Raises NotFoundError if it does not exist."""
        reply = self._call(f"inspecting {container[:12]}", "GET", f"/containers/{quote(container)}/json")
        return inspection(reply, local=self._info.local, podman=self._info.name == "podman")

    def wait(self, container: str, timeout_seconds: float) -> int | None:
        """Return the exit code once the container has ended, None if it still runs after the time.

        Raises NotFoundError if the container does not exist.
        """
        deadline = time.monotonic() + timeout_seconds
        with suppress(EngineError):
            # The answer is ignored: it is 0 at once for a container that never started, and -1 or an error for one
            # that is being removed. Only the later inspect counts.
            path = f"/containers/{quote(container)}/wait"
            self._call(f"waiting for {container[:12]}", "POST", path, timeout_seconds=max(0.05, timeout_seconds))
        while True:
            state = self.inspect(container).state
            if state.status in ("exited", "dead"):
                return state.exit_code
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.05)

    def run_inside(self, container: str, argv: tuple[str, ...], timeout_seconds: float) -> int:
        """Run a command in a running container and return its exit code. Raises EngineTimeoutError."""
        deadline = time.monotonic() + timeout_seconds
        doing = f"running {argv[0]} in {container[:12]}"
        body = {"Cmd": list(argv), "AttachStdin": False, "AttachStdout": False, "AttachStderr": False}
        made = self._call(doing, "POST", f"/containers/{quote(container)}/exec", body=body)
        self._call(doing, "POST", f"/exec/{made['Id']}/start", body={"Detach": True, "Tty": False})
        while time.monotonic() < deadline:
            reply = self._call(doing, "GET", f"/exec/{made['Id']}/json")
            if not reply.get("Running") and reply.get("ExitCode") is not None:
                return int(reply["ExitCode"])
            time.sleep(0.02)
        raise EngineTimeoutError(f"running {argv[0]} in {container[:12]}: not done in {timeout_seconds:.0f} s")

    def limit_memory(self, container: str, memory_bytes: int) -> None:
        """Set the limit of memory and swap together of a running container."""
        body = {"Memory": memory_bytes, "MemorySwap": memory_bytes}
        self._call(f"limiting {container[:12]}", "POST", f"/containers/{quote(container)}/update", body=body)

    def kill(self, container: str, signal_name: str = "KILL") -> None:
        """Send a signal to the main process; do nothing if it has already ended."""
        try:
            path = f"/containers/{quote(container)}/kill?signal={quote(signal_name)}"
            self._call(f"killing {container[:12]}", "POST", path)
        except (NotFoundError, ConflictError):
            return
        except EngineError as error:
            if "is not running" not in error.message:  # 20.10 answers 500 for a container that has ended
                raise

    def remove(self, container: str) -> None:
        """Remove a container in any state, with its anonymous volumes. Do nothing if it does not exist."""
        deadline = time.monotonic() + REMOVE_SECONDS
        problem: EngineError | None = None
        while time.monotonic() < deadline:
            try:
                path = f"/containers/{quote(container)}?v=1&force=1"
                self._call(f"removing {container[:12]}", "DELETE", path)
                return  # the engine answers once the removal is complete
            except NotFoundError:
                return
            except EngineError as error:  # a ConflictError if another removal is in progress
                problem = error
                if isinstance(error, EngineUnavailableError):
                    raise
            time.sleep(0.1)
        raise EngineError(f"container {container[:12]} could not be removed: {problem}")

    def _remove_listed(self, found: FoundObject) -> None:
        """Remove a container and wait until the engine no longer lists it.

        Docker lists a container that is still being created, but denies until then that its id exists: one that is
        removed too early would appear again.
        """
        deadline = time.monotonic() + REMOVE_SECONDS
        while time.monotonic() < deadline:
            self.remove(found.id)
            if all(one["Id"] != found.id for one in self._listed("/containers/json?all=1", found.labels)):
                return
            time.sleep(0.05)
        raise EngineError(f"container {found.name} is listed by the engine, and cannot be removed")

    def stats(self, container: str) -> Mapping[str, object]:
        """Return one answer of the engine's statistics call, without a wait for a second reading."""
        path = f"/containers/{quote(container)}/stats?stream=0&one-shot=1"
        return cast("Mapping[str, object]", self._call(f"reading statistics of {container[:12]}", "GET", path))

    def stats_stream(self, container: str) -> StatsStream:
        """Return a stream of the engine's statistics, about one answer a second. Raises NotFoundError."""
        path = f"/containers/{quote(container)}/stats?stream=1"
        doing = f"following statistics of {container[:12]}"
        return self._api.stream(doing, path, timeout_seconds=CALL_SECONDS)

    def _listed(self, path: str, labels: Mapping[str, str]) -> Any:
        """Return the objects that a list request finds with all these labels; an empty value matches any."""
        wanted = [key if value == "" else f"{key}={value}" for key, value in labels.items()]
        return self._call("listing objects", "GET", f"{path}&filters={quote(json.dumps({'label': wanted}))}")

    def find(self, labels: Mapping[str, str]) -> tuple[FoundObject, ...]:
        """Return the containers (in any state), volumes and networks that have all these labels."""
        containers = self._listed("/containers/json?all=1", labels)
        volumes = self._listed("/volumes?", labels)["Volumes"] or []
        networks = self._listed("/networks?", labels)
        return (
            *(
                FoundObject(
                    kind="container",
                    id=c["Id"],
                    name=(c.get("Names") or ["?"])[0].lstrip("/"),
                    labels=c.get("Labels") or {},
                    created_at=datetime.fromtimestamp(c["Created"]).astimezone() if c.get("Created") else None,
                )
                for c in containers
            ),
            *(
                FoundObject(kind="volume", id=v["Name"], name=v["Name"], labels=v.get("Labels") or {})
                for v in volumes
            ),
            *(
                FoundObject(kind="network", id=n["Id"], name=n["Name"], labels=n.get("Labels") or {})
                for n in networks
            ),
        )

    def remove_object(self, found: FoundObject) -> None:
        """Remove an object that `find` returned. Do nothing if it does not exist."""
        if found.kind == "container":
            self._remove_listed(found)
            return
        path = f"/volumes/{quote(found.id)}?force=1" if found.kind == "volume" else f"/networks/{quote(found.id)}"
        with suppress(NotFoundError):
            self._call(f"removing {found.kind} {found.name}", "DELETE", path)


def _seccomp_file(spec: ContainerSpec) -> Path:
    """Write the seccomp profile into the run's temporary folder; return its path. Raises EngineError."""
    folder = Path(spec.labels.get(labels.WORK_DIR) or tempfile.gettempdir())
    return _write_run_file(folder, "seccomp", spec.seccomp)


def _write_run_file(folder: Path, kind: str, text: str) -> Path:
    """Write `text` into a file of the run that engines can read, unless it is there; return its path.

    The file's name contains a digest of the text. Raises EngineError if it cannot be written.
    """
    path = folder / f"orch-{kind}-{text_digest(text)}"
    try:
        if not path.exists():
            unfinished = path.with_suffix(f".{threading.get_ident()}")
            unfinished.write_text(text, encoding="utf-8")
            unfinished.chmod(0o644)  # whatever the umask: the container's user is another one
            unfinished.replace(path)
    except OSError as error:
        raise EngineError(f"writing the {kind} file for a container to {path}: {error.strerror}") from error
    return path
