"""The answers of the engine's statistics call, read by one thread and closed by another."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import requests
import urllib3.exceptions
from docker.errors import DockerException
from docker.types import CancellableStream

from orchestrator.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

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
