"""How the Docker SDK is reached and how its errors become ours: shared by the files that may import it.

Itself imported only when the SDK is needed: it takes 0.1 s, and a run on a Unix socket does without.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker.api
import docker.errors
import docker.tls
import requests
import urllib3.exceptions
from docker.errors import DockerException
from docker.types import CancellableStream

from orchestrator.engine.docker.connect_errors import connect_seconds, no_engine
from orchestrator.engine.docker.http import CALL_SECONDS
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

    def follow(self, path: str) -> None:
        """There is none: whether a connection through a network broke or the engine ended cannot be told."""

    def ping(self, timeout_seconds: float) -> None:
        """Ask over any connection."""
        self.request("GET", "/_ping", None, timeout_seconds)

    def close(self) -> None:
        """Nothing: the client is closed by who opened it."""


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
            base_url=address, version="auto", timeout=connect_seconds(env), tls=tls, max_pool_size=POOL_SIZE
        )
    except (
        docker.errors.DockerException,
        requests.exceptions.RequestException,
        OSError,
        ValueError,
    ) as error:
        raise no_engine(address, error) from error
    client.timeout = CALL_SECONDS
    return client


MAX_ANSWER_BYTES = 1 << 20
_ENDINGS = (
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
    OSError,
    ValueError,
    AttributeError,  # of urllib3, whose response was closed by the other thread
)


class StatsAnswers:
    """One answer a line, until the container is gone or `close` is called."""

    def __init__(self, response: requests.Response) -> None:
        self._response = response
        self._lines = response.iter_lines()
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def next(self) -> Mapping[str, object] | None:
        """The next answer; None at the end."""
        if self._closed.is_set():
            return None
        try:
            line = next(self._lines, None)
            if line is None or self._closed.is_set():
                return None
            answer = json.loads(line[:MAX_ANSWER_BYTES] or b"{}")
        except _ENDINGS as error:
            if self._closed.is_set():
                return None
            raise EngineError(f"following statistics: {error}") from error
        return answer if isinstance(answer, dict) else {}

    def close(self) -> None:
        """Shut the connection down, which wakes a reader; only closing it would not."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
        response: Any = self._response
        with suppress(DockerException, OSError, AttributeError, UnboundLocalError):
            # AttributeError: the answer has ended by itself, and with it its connection
            CancellableStream(self._lines, response).close()
        with suppress(OSError):
            response.close()
