"""Connects to an engine by the Docker SDK, for requests that are more than JSON.

They are attached streams, archives, builds, and pulls with the user's credentials. Import this module only where
the SDK is needed: the import takes 0.1 s, and an ordinary run does not need it.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker.api
import docker.errors
import docker.tls
import requests
import urllib3.exceptions

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
"""The number of kept connections. With the SDK's default of 10, an eleventh thread opens a connection per call."""


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise errors of the SDK, requests and urllib3 as exceptions of `orchestrator.errors`."""
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
        # requests reports a silent engine as a lost connection
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


def connect(address: str, env: Mapping[str, str]) -> Any:
    """Return the SDK's low-level client, connected. Raises EngineUnavailableError if no engine answers."""
    tls: docker.tls.TLSConfig | bool = False
    if address.startswith("tcp://") and env.get("DOCKER_TLS_VERIFY"):
        folder = Path(env.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
        tls = docker.tls.TLSConfig(
            client_cert=(str(folder / "cert.pem"), str(folder / "key.pem")),
            ca_cert=str(folder / "ca.pem"),
            verify=True,
        )
    try:
        # this call connects and asks for the version; the longer timeout is set once it has answered
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
