"""The client of the engine's HTTP API, against an answer that never ends, over a real socket."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from contextlib import suppress

from orchestrator.engine.docker.http import JsonLines

HEADERS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
LINE = b'{"Action": "start"}\n'
CHUNK = b"%x\r\n%s\r\n" % (len(LINE), LINE)


class SlowlyClosedResponse(http.client.HTTPResponse):
    """A response that takes a while to close, so that a second thread that closes it comes in between."""

    def flush(self) -> None:
        time.sleep(0.01)
        super().flush()


def endless_lines() -> JsonLines:
    """Return an open answer of JSON lines, which a thread writes until the connection is closed."""
    ours, theirs = socket.socketpair()

    def answer() -> None:
        with suppress(OSError), theirs:
            theirs.sendall(HEADERS)
            while True:
                theirs.sendall(CHUNK[:7])
                theirs.sendall(CHUNK[7:])

    threading.Thread(target=answer, daemon=True).start()
    response = SlowlyClosedResponse(ours)
    response.begin()
    return JsonLines(ours, response)


def test_a_stream_is_closed_by_two_threads_while_one_of_them_reads_it() -> None:
    """The thread that reads the engine's events closes its stream at the same time as the end of the run."""
    errors: list[Exception] = []

    def read(lines: JsonLines, started: threading.Event) -> None:
        try:
            while lines.next() is not None:
                started.set()
            lines.close()
        except (ValueError, AttributeError, OSError) as error:
            errors.append(error)

    for _ in range(20):
        lines = endless_lines()
        started = threading.Event()
        reader = threading.Thread(target=read, args=(lines, started))
        reader.start()
        assert started.wait(10)
        try:
            lines.close()
        except (ValueError, AttributeError, OSError) as error:
            errors.append(error)
        reader.join(10)
        assert not reader.is_alive()
        assert lines.next() is None
        lines.close()
    assert errors == []


def test_a_line_is_returned_as_an_object() -> None:
    lines = endless_lines()
    assert lines.next() == {"Action": "start"}
    lines.close()
