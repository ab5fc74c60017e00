"""How the Docker SDK is reached and how its errors become ours: shared by the files that may import it."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker.api
import docker.errors
import docker.tls
import requests
import urllib3.exceptions

from orchestrator.errors import (
    ConflictError,
    EngineError,
    EngineTimeoutError,
    EngineUnavailableError,
    ImageError,
    NotFoundError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CONNECT_SECONDS = 2.0
"""A socket that exists answers at once; a wrong address must not hold a user for longer. ORCH_CONNECT_SECONDS says
otherwise: Podman starts three programs to tell its version, which an emulated machine does in 3 s.
"""
CALL_SECONDS = 60.0
"""Longest time between two bytes of an answer: an engine under full load took 11 s for a create."""
POOL_SIZE = 64
"""Connections kept; the SDK's own 10 make the eleventh thread open and close one for each call."""


@contextmanager
def translated(doing: str) -> Iterator[None]:
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
        if is_read_timeout(error):
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


def is_read_timeout(error: requests.exceptions.ConnectionError) -> bool:
    """True where requests calls a silent engine a lost connection."""
    return isinstance(error.args[0] if error.args else None, urllib3.exceptions.ReadTimeoutError)


class SdkTransport:
    """The same requests through the SDK's session: for addresses with TCP and TLS."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def request(self, method: str, path: str, body: bytes | None, timeout_seconds: float) -> tuple[int, bytes]:
        """One request; raises requests' exceptions as those of a plain connection."""
        try:
            answer = self._client.request(
                method,
                self._client.base_url + path,
                data=body,
                headers={"Content-Type": "application/json"} if body else None,
                timeout=timeout_seconds,
            )
        except requests.exceptions.Timeout as error:
            raise TimeoutError(str(error)) from error
        except requests.exceptions.ConnectionError as error:
            if is_read_timeout(error):
                raise TimeoutError(str(error)) from error
            raise ConnectionError(str(error)) from error
        return answer.status_code, answer.content

    def close(self) -> None:
        """Nothing: the client is closed by who opened it."""


def _connect_seconds(env: Mapping[str, str]) -> float:
    try:
        return max(0.1, float(env.get("ORCH_CONNECT_SECONDS", CONNECT_SECONDS)))
    except ValueError as error:
        raise EngineUnavailableError(f"ORCH_CONNECT_SECONDS is no number of seconds: {error}") from error


def connect(address: str, env: Mapping[str, str]) -> Any:
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
