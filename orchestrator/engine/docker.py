"""The real engine: Docker or Podman through the Docker SDK, which is imported here only.

Every call has a deadline and every error of the SDK becomes one of ours. The SDK's low-level client is used:
its requests are the engine's own, so nothing happens that this file does not show.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import docker
import docker.api
import docker.errors
import docker.tls
import requests
import urllib3.exceptions

from orchestrator.engine import labels
from orchestrator.engine.attach import AttachChannel
from orchestrator.engine.base import FoundObject
from orchestrator.engine.statsanswers import StatsAnswers
from orchestrator.engine.wire import (
    container_config,
    describe,
    for_podman,
    inspection,
    name_and_tag,
)
from orchestrator.errors import (
    ConflictError,
    EngineError,
    EngineTimeoutError,
    EngineUnavailableError,
    ImageError,
    NoShellError,
    NotFoundError,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping
    from typing import BinaryIO

    from orchestrator.engine.base import Channel, ContainerSpec, Engine, Inspection, StatsStream
    from orchestrator.model import EngineInfo

CONNECT_SECONDS = 2.0
"""A socket that exists answers at once; a wrong address must not hold a user for longer. ORCH_CONNECT_SECONDS says
otherwise: Podman starts three programs to tell its version, which an emulated machine does in 3 s.
"""
CALL_SECONDS = 60.0
"""Longest time between two bytes of an answer: an engine under full load took 11 s for a create."""
REMOVE_SECONDS = 30.0
BUILD_SILENCE_SECONDS = 1800
"""Longest time between two lines of a build: a step that compiles may say nothing for long."""
POOL_SIZE = 64
"""Connections kept; the SDK's own 10 make the eleventh thread open and close one for each call."""


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    """Turn the errors of the SDK and of what is below it into ours."""
    try:
        yield
    except docker.errors.NotFound as error:
        raise NotFoundError(f"{doing}: {error.explanation or error}") from error
    except docker.errors.APIError as error:
        kind = ConflictError if error.status_code == 409 else EngineError
        raise kind(f"{doing}: {error.explanation or error}") from error
    except docker.errors.BuildError as error:
        raise ImageError(f"{doing}: {error}") from error
    except (requests.exceptions.Timeout, TimeoutError) as error:
        raise EngineTimeoutError(f"{doing}: the engine did not answer within {CALL_SECONDS:.0f} s") from error
    except requests.exceptions.ConnectionError as error:
        if isinstance(error.args[0] if error.args else None, urllib3.exceptions.ReadTimeoutError):
            raise EngineTimeoutError(f"{doing}: the engine did not answer in time") from error
        raise EngineUnavailableError(
            f"{doing}: lost the connection to the engine", remedy="orch doctor tells whether it answers"
        ) from error
    except (
        docker.errors.DockerException,
        requests.exceptions.RequestException,
        OSError,
        ValueError,
    ) as error:
        raise EngineError(f"{doing}: {error}") from error


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
    folder = Path(spec.labels.get(labels.PLACE) or tempfile.gettempdir())
    path = folder / f"orch-seccomp-{hashlib.sha256(spec.seccomp.encode()).hexdigest()[:16]}.json"
    try:
        if not path.exists():
            unfinished = path.with_suffix(f".{threading.get_ident()}")
            unfinished.write_text(spec.seccomp, encoding="utf-8")
            unfinished.replace(path)
    except OSError as error:
        raise EngineError(f"writing the seccomp profile for Podman to {path}: {error.strerror}") from error
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
            remedy="start Docker or Podman, or run scripts/setup-engine",
        )
    problems = []
    for address in addresses:
        try:
            return DockerEngine(address, env)
        except EngineUnavailableError as error:
            problems.append(error)
    raise problems[0]


class DockerEngine:
    """An engine behind an address: unix://, tcp:// (TLS from DOCKER_TLS_VERIFY and DOCKER_CERT_PATH)."""

    def __init__(self, address: str, env: Mapping[str, str]) -> None:
        self._address = address
        self._client: Any = _connect(address, env)  # the SDK has no types of its own
        try:
            with _translated("reading the engine's description"):
                self._info = describe(address, self._client.info(), self._client.version())
        except EngineError:
            self._client.close()
            raise

    @property
    def info(self) -> EngineInfo:
        """The engine's abilities, read once when it was opened."""
        return self._info

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    # ------------------------------------------------------------ containers

    def create(self, spec: ContainerSpec) -> str:
        """Create, not start; the id."""
        config = container_config(spec)
        if self._info.name == "podman":
            config = for_podman(config, _seccomp_file(spec))
        with _translated(f"creating container {spec.name}"):
            reply = self._client.create_container_from_config(config, spec.name)
        return str(reply["Id"])

    def attach(self, container: str) -> Channel:
        """Streams of a created container."""
        with _translated(f"attaching to {container[:12]}"):
            stream = self._client.attach_socket(
                container, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            )
        raw = cast("socket.socket", getattr(stream, "_sock", stream))
        return AttachChannel(raw, keep=stream)

    def start(self, container: str) -> None:
        """Start a created container. NoShellError: its program is /bin/sh, and the image has none."""
        try:
            with _translated(f"starting {container[:12]}"):
                self._client.start(container)
        except EngineError as error:
            # runc and crun each have words of their own for it
            if "/bin/sh" in error.message and "no such file" in error.message.lower():
                raise NoShellError(error.message) from error
            raise

    def inspect(self, container: str) -> Inspection:
        """State and settings."""
        with _translated(f"inspecting {container[:12]}"):
            return inspection(self._client.inspect_container(container), local=self._info.local)

    def wait(self, container: str, timeout_seconds: float) -> int | None:
        """Exit code, None when time ran out."""
        deadline = time.monotonic() + timeout_seconds
        with suppress(docker.errors.DockerException, requests.exceptions.RequestException, OSError, ValueError):
            # only to wait, whatever it answers: 0 at once for a container that never started, -1 or an error
            # for one that is being removed
            self._client.wait(container, timeout=max(0.05, timeout_seconds))
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
        with _translated(f"running {argv[0]} in {container[:12]}"):
            made = self._client.exec_create(container, list(argv), stdout=False, stderr=False)
            self._client.exec_start(made["Id"], detach=True)
            while time.monotonic() < deadline:
                reply = self._client.exec_inspect(made["Id"])
                if not reply.get("Running") and reply.get("ExitCode") is not None:
                    return int(reply["ExitCode"])
                time.sleep(0.02)
        raise EngineTimeoutError(f"running {argv[0]} in {container[:12]}: not done in {timeout_seconds:.0f} s")

    def kill(self, container: str, signal_name: str = "KILL") -> None:
        """Signal the main process; no error if it has already ended."""
        try:
            with _translated(f"killing {container[:12]}"):
                self._client.kill(container, signal_name)
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
                with _translated(f"removing {container[:12]}"):
                    self._client.remove_container(container, v=True, force=True)
                return  # the answer comes after the removal is done
            except NotFoundError:
                return
            except (ConflictError, EngineError) as error:  # 409: somebody else's removal is in progress
                problem = error
                if isinstance(error, EngineUnavailableError):
                    raise
            time.sleep(0.1)
        raise EngineError(f"container {container[:12]} could not be removed: {problem}")

    def stats(self, container: str) -> Mapping[str, object]:
        """One shot of the engine's own statistics."""
        with _translated(f"reading statistics of {container[:12]}"):
            return cast("Mapping[str, object]", self._client.stats(container, stream=False, one_shot=True))

    def stats_stream(self, container: str) -> StatsStream:
        """The same about once a second."""
        place = f"{self._client.base_url}/v{self._client.api_version}/containers/{container}/stats"
        with _translated(f"following statistics of {container[:12]}"):
            # the SDK's own stream cannot be closed while another thread reads it
            response = self._client.get(place, params={"stream": "1"}, stream=True, timeout=CALL_SECONDS)
            if response.status_code == 404:
                response.close()
                raise NotFoundError(f"following statistics of {container[:12]}: there is no such container")
            response.raise_for_status()
        return StatsAnswers(response)

    def find(self, labels: Mapping[str, str]) -> tuple[FoundObject, ...]:
        """Containers of any state, volumes and networks that carry all these labels."""
        wanted = {"label": [key if value == "" else f"{key}={value}" for key, value in labels.items()]}
        with _translated("listing objects"):
            containers = self._client.containers(all=True, filters=wanted)
            volumes = self._client.volumes(filters=wanted)["Volumes"] or []
            networks = self._client.networks(filters=wanted)
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
        """Remove what `find` found."""
        if found.kind == "container":
            self.remove(found.id)
            return
        try:
            with _translated(f"removing {found.kind} {found.name}"):
                if found.kind == "volume":
                    self._client.remove_volume(found.id, force=True)
                else:
                    self._client.remove_network(found.id)
        except NotFoundError:
            return

    # ------------------------------------------------------------ images

    def find_image(self, reference: str) -> str | None:
        """ID of a local image, or None."""
        try:
            with _translated(f"looking for image {reference}"):
                return str(self._client.inspect_image(reference)["Id"])
        except NotFoundError:
            return None

    def image_bytes(self, image_id: str) -> int:
        """Size on disk."""
        with _translated(f"inspecting image {image_id}"):
            return int(self._client.inspect_image(image_id)["Size"])

    def image_labels(self, image_id: str) -> Mapping[str, str]:
        """Its labels."""
        with _translated(f"inspecting image {image_id}"):
            return (self._client.inspect_image(image_id).get("Config") or {}).get("Labels") or {}

    def pull(self, reference: str, timeout_seconds: float) -> str:
        """Pull; the ID."""
        deadline = time.monotonic() + timeout_seconds
        try:
            with _translated(f"pulling {reference}"):
                name, tag = name_and_tag(reference)
                for event in self._client.pull(name, tag=tag, stream=True, decode=True):
                    if "error" in event:
                        raise ImageError(f"pulling {reference}: {event['error']}")
                    if time.monotonic() > deadline:
                        raise ImageError(f"pulling {reference}: not done in {timeout_seconds:.0f} s")
        except ImageError:
            raise
        except EngineError as error:
            raise ImageError(error.message) from error
        found = self.find_image(reference)
        if found is None:
            raise ImageError(f"pulling {reference}: the engine said nothing, and does not have it")
        return found

    def build(
        self,
        *,
        context: BinaryIO,
        dockerfile: str,
        tags: tuple[str, ...],
        build_args: Mapping[str, str],
        labels: Mapping[str, str],
        network: str | None,
        on_line: Callable[[str], None],
    ) -> str:
        """Build from a tar stream; the ID. The classic builder: every engine has it, with or without buildx."""
        image_id, step = None, ""
        lines: list[str] = []
        with _translated("building an image"):
            events = self._client.build(
                fileobj=context,
                custom_context=True,
                dockerfile=dockerfile,
                buildargs=dict(build_args),
                labels=dict(labels),
                network_mode=network,
                rm=True,
                forcerm=True,
                timeout=BUILD_SILENCE_SECONDS,
                decode=True,
            )
            for event in events:
                text = str(event.get("stream") or "").rstrip()
                if text:
                    on_line(text)
                    step = text if text.startswith("Step ") else step
                    lines = [*lines[-19:], text]
                if "error" in event:
                    tail = "\n  ".join(lines)
                    raise ImageError(f"building an image failed at {step}: {event['error']}\n  {tail}")
                image_id = (event.get("aux") or {}).get("ID") or image_id
        if image_id is None:
            raise ImageError(f"building an image ended without an ID after {step}")
        for tag in tags:
            self.tag(image_id, tag)
        return str(image_id)

    def import_rootfs(self, archive: BinaryIO, reference: str, labels: Mapping[str, str]) -> str:
        """Make an image of a root file system's tar stream; the ID."""
        name, tag = name_and_tag(reference)
        changes = [f'LABEL "{key}"="{value}"' for key, value in labels.items()]
        with _translated(f"importing {reference}"):
            # not import_image_from_stream: it declares a chunked body and sends a plain one if the length is known
            self._client.import_image(src=archive, repository=name, tag=tag, changes=changes or None)
        found = self.find_image(reference)
        if found is None:
            raise ImageError(f"importing {reference}: the engine does not have it afterwards")
        return found

    def tag(self, image_id: str, reference: str) -> None:
        """Give an image a further name."""
        name, tag = name_and_tag(reference)
        with _translated(f"tagging {reference}"):
            self._client.tag(image_id, name, tag)

    def remove_image(self, reference: str) -> None:
        """Remove a name, and the image with its last one."""
        try:
            with _translated(f"removing image {reference}"):
                self._client.remove_image(reference)
        except NotFoundError:
            return


def _connect_seconds(env: Mapping[str, str]) -> float:
    try:
        return max(0.1, float(env.get("ORCH_CONNECT_SECONDS", CONNECT_SECONDS)))
    except ValueError as error:
        raise EngineUnavailableError(f"ORCH_CONNECT_SECONDS is no number of seconds: {error}") from error


def _connect(address: str, env: Mapping[str, str]) -> Any:
    """A client whose first call, the version's negotiation, has answered."""
    tls: docker.tls.TLSConfig | bool = False
    if address.startswith("tcp://") and env.get("DOCKER_TLS_VERIFY"):
        folder = Path(env.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
        tls = docker.tls.TLSConfig(
            client_cert=(str(folder / "cert.pem"), str(folder / "key.pem")),
            ca_cert=str(folder / "ca.pem"),
            verify=True,
        )
    try:
        # connecting and asking for the version are one call here; the longer deadline is set when it answered
        client = docker.api.APIClient(
            base_url=address, version="auto", timeout=_connect_seconds(env), tls=tls, max_pool_size=POOL_SIZE
        )
    except (
        docker.errors.DockerException,
        requests.exceptions.RequestException,
        OSError,
        ValueError,
    ) as error:
        raise EngineUnavailableError(
            f"no engine answers at {address}: {_cause(error)}", remedy=_remedy(error)
        ) from error
    client.timeout = CALL_SECONDS
    return client


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
    return " ".join(text.split())[:300]  # whatever answered there may have said anything


def _remedy(error: BaseException) -> str:
    root = _root_cause(error)
    if isinstance(root, PermissionError):
        return (
            "your user may not use the socket: add it to the docker group and log in again, or use rootless Podman"
        )
    if isinstance(root, FileNotFoundError | ConnectionRefusedError):
        return "start Docker or Podman, or run scripts/setup-engine"
    if isinstance(root, TimeoutError):
        return (
            f"see whether it works at all; if it is only slow, set ORCH_CONNECT_SECONDS (now {CONNECT_SECONDS:g})"
        )
    return "check DOCKER_HOST and --engine; orch doctor tells more"
