"""Simulates agent.sh in a container of the in-memory engine: the same protocol, with a Python function as the
test.

engine = FakeEngine(play_test(lambda test: test.print("hello") or 3))
"""

from __future__ import annotations

import contextlib
import io
import shlex
import tarfile
import time
from dataclasses import dataclass, field
from queue import Empty
from typing import TYPE_CHECKING

from orchestrator.engine.agent import protocol
from orchestrator.testing.container import Gone

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.engine.base import ContainerSpec
    from orchestrator.testing.container import Behaviour, FakeContainer


@dataclass(slots=True, kw_only=True)
class FakeTest:
    """The input of a simulated test, and the results that it may set."""

    container: FakeContainer
    first: bool
    keep: bool
    folder: str
    env: dict[str, str]
    argv: tuple[str, ...]
    nonce: str
    """The secret of the agent's marks, which a real test cannot read."""
    outputs: dict[str, bytes] = field(default_factory=dict)
    """The contents of the files of `$ORCH_OUTPUT_DIR` by name."""
    leftovers: list[tuple[int, str]] = field(default_factory=list)
    """The processes that the test leaves behind, as (pid, command line)."""
    counters: str = ""
    """The text of the counters after the test."""
    archive: bytes | None = None
    """The archive to send instead of one made from `outputs`."""

    def print(self, text: str | bytes, *, stream: str = "stdout") -> None:
        """Write output of the test, unchanged."""
        self.container.streams.send(stream, text.encode() if isinstance(text, str) else text)

    def sleep(self, seconds: float, *, ignore: tuple[str, ...] = ()) -> int | None:
        """Wait; return None after the time, or the exit code of a signal that ended the test before."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(Empty):
                name = self.container.signals.get(timeout=min(left, 0.01))
                if name not in ignore:
                    return 128 + {"TERM": 15, "KILL": 9, "INT": 2}.get(name, 1)
            if not self.container.running:
                raise Gone
        return None


def play_test(test: Callable[[FakeTest], int | None]) -> Callable[[ContainerSpec], Behaviour]:
    """Return a behaviour for `FakeEngine` in which every container runs the agent, and the agent runs `test`.

    `test` returns its exit code; None means 0.
    """

    def behaviour(container: FakeContainer) -> int:
        return _agent(container, test)

    return lambda _: behaviour


def _agent(container: FakeContainer, play: Callable[[FakeTest], int | None]) -> int:
    streams = container.streams
    environment: dict[str, str] = {}
    streams.send("stdout", protocol.READY)
    while (line := streams.read_line()) is not None:
        nonce = line.decode()
        script = []
        while (line := streams.read_line()) is not None and line.decode() != nonce:
            script.append(line.decode(errors="surrogateescape"))
        test = _read_order(container, nonce, "\n".join(script), environment)
        code = _run(test, play)
        if not test.keep or code != 0 or test.leftovers:
            return code
    return 0


def _read_order(container: FakeContainer, nonce: str, script: str, environment: dict[str, str]) -> FakeTest:
    """Parse one test's script; `environment` keeps its variables from one script to the next, as in the agent."""
    words = shlex.split(script)
    if words[0] == "environment()":
        environment.clear()
        environment.update(_exported(words, "environment()"))
    own = _exported(words, "own()")
    words = words[words.index("orch_test") :]
    return FakeTest(
        container=container,
        first=words[1] == "first",
        keep=words[2] == "keep",
        folder=words[3],
        env={**environment, **own},
        argv=tuple(words[4:]),
        nonce=nonce,
    )


def _exported(words: list[str], function: str) -> dict[str, str]:
    start = words.index(function) + 3
    exported = [word.removesuffix(";") for word in words[start : words.index("}", start)]]
    return dict(word.partition("=")[::2] for word in exported if "=" in word)


def _run(test: FakeTest, play: Callable[[FakeTest], int | None]) -> int:
    streams = test.container.streams

    def mark(word: str, stream: str = "stdout") -> None:
        streams.send(stream, f"\n{test.nonce} {word}\n".encode())

    if test.first:
        mark("begin")
        streams.send("stdout", b"Readable no\n")
        mark("run")
    code = play(test) or 0
    mark("end", "stderr")
    mark("end")
    streams.send("stdout", f"code {code}\n{test.counters}".encode())
    mark("rest")
    streams.send("stdout", "".join(f"leftover {pid} {line}\n" for pid, line in test.leftovers).encode())
    mark("list")
    streams.send("stdout", "".join(f"./{name}\n" for name in test.outputs).encode())
    mark("tar")
    streams.send("stdout", _archive(test.outputs) if test.archive is None else test.archive)
    mark("reset")
    mark("over")
    return code


def _archive(outputs: dict[str, bytes]) -> bytes:
    if not outputs:
        return b""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for name, content in outputs.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return held.getvalue()
