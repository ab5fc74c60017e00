"""The real engine: Docker or Podman, by its own API and, for streams and builds, the Docker SDK.

Every call has a deadline and every error of the SDK becomes one of ours. The SDK's low-level client is used:
its requests are the engine's own, so nothing happens that this file does not show.
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
from orchestrator.engine.docker.attach import AttachChannel
from orchestrator.engine.docker.connect_errors import START_ENGINE, connect_seconds, no_engine
from orchestrator.engine.docker.http import CALL_SECONDS, EngineApi, connected
from orchestrator.engine.docker.images import DockerImages
from orchestrator.engine.docker.inspected_settings import text_digest
from orchestrator.engine.docker.messages import container_config, describe, for_podman, inspection
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
"""/etc/hosts where the engine writes none."""


def candidate_addresses(url: str | None, env: Mapping[str, str]) -> tuple[str, ...]:
    """Where an engine may answer, best first: the one named, the current context's, the usual sockets."""
    named = url or env.get("DOCKER_HOST")
    if named:
        return (named,)
    found = []
    context = _context_address(env)
    if context:
        found.append(context)
    runtime = env.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    for path in (
        "/var/run/docker.sock",
        f"{runtime}/docker.sock",
        f"{runtime}/podman/podman.sock",
        "/run/podman/podman.sock",
    ):
        address = f"unix://{path}"
        if address not in found and _is_there(path):
            found.append(address)
    return tuple(found)


def _seccomp_file(spec: ContainerSpec) -> Path:
    """The profile as a file in the run's own folder, which goes with it. EngineError: it cannot be written."""
    return _file_of_run(Path(spec.labels.get(labels.WORK_DIR) or tempfile.gettempdir()), "seccomp", spec.seccomp)


def _file_of_run(folder: Path, kind: str, text: str) -> Path:
    """A file with this text, named by it, that container engines can read. EngineError: it cannot be written."""
    path = folder / f"orch-{kind}-{text_digest(text)}"
    try:
        if not path.exists():
            unfinished = path.with_suffix(f".{threading.get_ident()}")
            unfinished.write_text(text, encoding="utf-8")
            unfinished.chmod(0o644)  # past the umask: the container's user is another one
            unfinished.replace(path)
    except OSError as error:
        raise EngineError(f"writing the {kind} file for a container to {path}: {error.strerror}") from error
    return path


def _is_there(path: str) -> bool:
    """False also where the folder is closed to this user, as a rootful Podman's is: not a place to try then."""
    try:
        return Path(path).exists()
    except OSError:
        return False


def _context_address(env: Mapping[str, str]) -> str | None:
    """Address of the Docker CLI's current context, unless it is the default one."""
    if not (Path(env.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json").is_file():
        return None
    import docker.errors
    from docker.context import ContextAPI

    try:
        context = ContextAPI.get_current_context()
    except (docker.errors.DockerException, OSError, ValueError, KeyError):
        return None  # a broken context file is the CLI's affair; the usual sockets are still tried
    if context is None or context.Name == "default":
        return None
    return cast("str | None", context.Host)


def open_engine(url: str | None = None, env: Mapping[str, str] | None = None) -> Engine:
    """A live engine. Raises EngineUnavailableError with the remedy where none answers."""
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
    """An engine behind an address: unix://, tcp:// (TLS from DOCKER_TLS_VERIFY and DOCKER_CERT_PATH)."""

    def __init__(self, address: str, env: Mapping[str, str]) -> None:
        self._address = address
        self._env = dict(env)
        self._sdk: Any = None
        self._sdk_lock = threading.Lock()
        self._direct, version = self._connected()
        try:
            info = self._call("reading the engine's description", "GET", "/info")
            self._info = describe(address, info, version)
        except EngineError:
            self.close()
            raise
        self._own_network: bool | None = None  # what the first container without network set-up has shown
        self._to_prove: set[str] = set()

    def _connected(self) -> tuple[EngineApi, Mapping[str, Any]]:
        """The calls, and what the engine says of its version."""
        if not self._address.startswith("unix://"):
            from orchestrator.engine.docker.sdk import SdkTransport

            calls = EngineApi(SdkTransport(self._client), self._client.api_version)
            doing = "reading the engine's description"
            try:
                return calls, calls.call(doing, "GET", "/version", timeout_seconds=CALL_SECONDS)
            except EngineError:
                self._client.close()
                raise
        try:
            return connected(self._address.removeprefix("unix://"), connect_seconds(self._env))
        except EngineError as error:
            raise no_engine(self._address, error) from error

    @property
    def _client(self) -> Any:
        """The SDK's, made when it is first needed."""
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
        return self._direct.call(doing, method, path, body=body, timeout_seconds=timeout_seconds)

    @property
    def info(self) -> EngineInfo:
        """The engine's abilities, read once when it was opened."""
        return self._info

    def close(self) -> None:
        """Close the connections."""
        self._direct.close()
        if self._sdk is not None:
            self._sdk.close()

    def ping(self, timeout_seconds: float) -> None:
        """EngineUnavailableError: it does not answer in that time."""
        self._direct.ping(timeout_seconds)

    def events(self, labels: Mapping[str, str], kinds: tuple[str, ...], since: float) -> EventStream:
        """What happens to containers with these labels from then on, as the engine tells it."""
        wanted = {
            "type": ["container"],
            "label": [f"{key}={value}" for key, value in labels.items()],
            "event": list(kinds),
        }
        path = f"/events?since={since:.9f}&filters={quote(json.dumps(wanted))}"
        return self._direct.follow("following the engine's events", path)

    # ------------------------------------------------------------ containers

    def create(self, spec: ContainerSpec) -> str:
        """Create, not start; the id."""
        if self._info.name == "podman":
            config = for_podman(container_config(spec), _seccomp_file(spec))
        else:
            config = container_config(spec, hosts_file=self._hosts_file(spec))
        doing = f"creating container {spec.name}"
        reply = self._call(doing, "POST", f"/containers/create?name={quote(spec.name)}", body=config)
        if config.get("NetworkDisabled") and not self._own_network:
            self._to_prove.add(str(reply["Id"]))
        return str(reply["Id"])

    def _hosts_file(self, spec: ContainerSpec) -> Path | None:
        """What a container without the engine's network set-up needs instead; None: it has to be set up. Only an
        engine that shares our files can mount it, and it goes with the run's folder.
        """
        place = spec.labels.get(labels.WORK_DIR)
        if spec.network != "none" or not self._info.local or self._own_network is False:
            return None
        if place is None or not Path(place).is_dir():
            return None
        return _file_of_run(Path(place), "hosts", HOSTS)

    def attach(self, container: str) -> Channel:
        """Streams of a created container."""
        with self._translated(f"attaching to {container[:12]}"):
            stream = self._client.attach_socket(
                container, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            )
        raw = cast("socket.socket", getattr(stream, "_sock", stream))
        return AttachChannel(raw, keep=stream)

    def start(self, container: str) -> None:
        """Start a created container. NoShellError: its program is /bin/sh, and the image has none."""
        try:
            self._call(f"starting {container[:12]}", "POST", f"/containers/{quote(container)}/start")
        except EngineError as error:
            # runc and crun each have words of their own for it
            if "/bin/sh" in error.message and "no such file" in error.message.lower():
                raise NoShellError(error.message) from error
            raise
        if container in self._to_prove:
            self._to_prove.discard(container)
            self._prove_own_network(container)

    def _prove_own_network(self, container: str) -> None:
        """Look at the first container without network set-up. Where that cannot be, the engine sets up later ones.
        EngineError: it sees this machine's network; it is killed.
        """
        seen = self.inspect(container)
        if seen.pid is None:
            return  # it has ended already: the next one will tell
        own = has_own_network(container, seen.pid)
        if own is None and self.inspect(container).state.status != "running":
            return
        self._own_network = own is True
        if own is False:
            self.kill(container)
            raise EngineError(f"container {container[:12]} came up with this machine's network")

    def inspect(self, container: str) -> Inspection:
        """State and settings."""
        reply = self._call(f"inspecting {container[:12]}", "GET", f"/containers/{quote(container)}/json")
        return inspection(reply, local=self._info.local, podman=self._info.name == "podman")

    def wait(self, container: str, timeout_seconds: float) -> int | None:
        """Exit code, None when time ran out."""
        deadline = time.monotonic() + timeout_seconds
        with suppress(EngineError):
            # only to wait, whatever it answers: 0 at once for a container that never started, -1 or an error
            # for one that is being removed
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
        """Run a command in a running container; its exit code."""
        deadline = time.monotonic() + timeout_seconds
        with self._translated(f"running {argv[0]} in {container[:12]}"):
            made = self._client.exec_create(container, list(argv), stdout=False, stderr=False)
            self._client.exec_start(made["Id"], detach=True)
            while time.monotonic() < deadline:
                reply = self._client.exec_inspect(made["Id"])
                if not reply.get("Running") and reply.get("ExitCode") is not None:
                    return int(reply["ExitCode"])
                time.sleep(0.02)
        raise EngineTimeoutError(f"running {argv[0]} in {container[:12]}: not done in {timeout_seconds:.0f} s")

    def limit_memory(self, container: str, memory_bytes: int) -> None:
        """Another limit for a running container."""
        body = {"Memory": memory_bytes, "MemorySwap": memory_bytes}
        self._call(f"limiting {container[:12]}", "POST", f"/containers/{quote(container)}/update", body=body)

    def kill(self, container: str, signal_name: str = "KILL") -> None:
        """Signal the main process; no error if it has already ended."""
        try:
            path = f"/containers/{quote(container)}/kill?signal={quote(signal_name)}"
            self._call(f"killing {container[:12]}", "POST", path)
        except (NotFoundError, ConflictError):
            return
        except EngineError as error:
            if "is not running" not in error.message:  # 20.10 answers 500 for a container that has ended
                raise

    def remove(self, container: str) -> None:
        """Force-remove with anonymous volumes, and poll until the engine no longer knows it."""
        deadline = time.monotonic() + REMOVE_SECONDS
        problem: EngineError | None = None
        while time.monotonic() < deadline:
            try:
                path = f"/containers/{quote(container)}?v=1&force=1"
                self._call(f"removing {container[:12]}", "DELETE", path)
                return  # the answer comes after the removal is done
            except NotFoundError:
                return
            except (ConflictError, EngineError) as error:  # 409: somebody else's removal is in progress
                problem = error
                if isinstance(error, EngineUnavailableError):
                    raise
            time.sleep(0.1)
        raise EngineError(f"container {container[:12]} could not be removed: {problem}")

    def _remove_listed(self, found: FoundObject) -> None:
        """Docker lists a container while it is still being made, and answers that there is none of that ID until
        it is, also to a list of that ID: one that is removed too early would come back.
        """
        deadline = time.monotonic() + REMOVE_SECONDS
        while time.monotonic() < deadline:
            self.remove(found.id)
            if all(one["Id"] != found.id for one in self._listed("/containers/json?all=1", found.labels)):
                return
            time.sleep(0.05)
        raise EngineError(f"container {found.name} is listed by the engine, and cannot be removed")

    def stats(self, container: str) -> Mapping[str, object]:
        """One shot of the engine's own statistics."""
        with self._translated(f"reading statistics of {container[:12]}"):
            return cast("Mapping[str, object]", self._client.stats(container, stream=False, one_shot=True))

    def stats_stream(self, container: str) -> StatsStream:
        """The same about once a second."""
        from orchestrator.engine.docker.sdk import StatsAnswers

        place = f"{self._client.base_url}/v{self._client.api_version}/containers/{container}/stats"
        with self._translated(f"following statistics of {container[:12]}"):
            # the SDK's own stream cannot be closed while another thread reads it
            response = self._client.get(place, params={"stream": "1"}, stream=True, timeout=CALL_SECONDS)
            if response.status_code == 404:
                response.close()
                raise NotFoundError(f"following statistics of {container[:12]}: there is no such container")
            response.raise_for_status()
        return StatsAnswers(response)

    def _listed(self, path: str, labels: Mapping[str, str]) -> Any:
        """What carries all these labels; an empty value stands for any."""
        wanted = [key if value == "" else f"{key}={value}" for key, value in labels.items()]
        return self._call("listing objects", "GET", f"{path}&filters={quote(json.dumps({'label': wanted}))}")

    def find(self, labels: Mapping[str, str]) -> tuple[FoundObject, ...]:
        """Containers of any state, volumes and networks that carry all these labels."""
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
        """Remove what `find` found, and see it go from the list."""
        if found.kind == "container":
            self._remove_listed(found)
            return
        path = f"/volumes/{quote(found.id)}?force=1" if found.kind == "volume" else f"/networks/{quote(found.id)}"
        with suppress(NotFoundError):
            self._call(f"removing {found.kind} {found.name}", "DELETE", path)


def has_own_network(container_id: str, pid: int, proc: Path = Path("/proc")) -> bool | None:
    """False: its processes see this machine's network interfaces. None: its process cannot be seen from here (it
    has ended, or its engine counts processes in another namespace), or this machine has no interface to tell by.
    """
    try:
        if container_id not in (proc / str(pid) / "cgroup").read_text():
            return None
        inside = _interfaces(proc / str(pid) / "net" / "dev")
        here = _interfaces(proc / "self" / "net" / "dev")
    except OSError:
        return None
    if here <= {"lo"}:
        return None
    # a new namespace may have the kernel's fallback tunnels (sit0, tunl0) too, but never all that the host has
    return not here <= inside


def _interfaces(table: Path) -> set[str]:
    """Names in the kernel's table: two lines of headings, then `name: counters`."""
    return {line.partition(":")[0].strip() for line in table.read_text().splitlines()[2:]}
