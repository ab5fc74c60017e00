"""Tests forked from a pytest that their slot has started before: what the slot's agent is told. Pure.

The program that does it runs inside the container: preload_server.py.
"""

from __future__ import annotations

import base64
import hashlib
import json
import posixpath
import shlex
import zlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from orchestrator.model import Launch, Preload

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PYTEST_WORDS = ("python3", "-m", "pytest")
PROGRAM = (
    "import sys, zlib, binascii; text = zlib.decompress(binascii.a2b_base64(sys.argv.pop(1))); "
    "exec(compile(text, 'orch', 'exec'), {'__name__': 'orch_preload'})"
)
OWN_NAMES = frozenset({"ORCH_TEST_ID", "ORCH_ATTEMPT"})
"""Environment that differs from test to test of a slot: not there while pytest is configured."""
MAX_REQUEST_BYTES = 32 << 10
"""A FIFO holds 64 KiB: the agent never waits to write one, even where the server has died."""
MAX_NOTE_CHARS = 300

_SUITE_NAME = "junit_suite_name="


@dataclass(frozen=True, slots=True, kw_only=True)
class Preloading:
    """How one test gets forked."""

    key: str
    """Tests with the same key can be forked from the same server."""
    server: tuple[str, ...]
    """How it is started: folder, NAME=VALUE..., --, the program's words."""
    request: str
    """One line of ASCII; see preload_server.py."""


def preloading(
    mode: Preload, argv: Sequence[str], folder: str, env: Mapping[str, str]
) -> Preloading | None:
    """None where the test is no pytest that can be forked.

    `argv`: the words as they are inside the container, the target last; `folder`: the working directory.
    """
    if mode is Preload.OFF or tuple(argv[:3]) != PYTEST_WORDS or len(argv) < 4:
        return None
    words, target = list(argv[3:]), argv[-1]
    suite_name = next((w for w in reversed(words) if w.startswith(_SUITE_NAME)), None)
    common = [word for word in words[:-1] if word != suite_name]
    own = {name: value for name, value in env.items() if name in OWN_NAMES}
    shared = [folder, common, sorted((name, value) for name, value in env.items() if name not in own)]
    request = json.dumps({
        "argv": words,
        "target": target,
        "suite_name": None if suite_name is None else suite_name.removeprefix(_SUITE_NAME),
        "env": own,
        "folder": posixpath.dirname(target.partition("[")[0].partition("::")[0]),
        "collect": mode is Preload.COLLECT,
    })
    if len(request) > MAX_REQUEST_BYTES:
        return None
    digest = hashlib.blake2b(json.dumps([mode, shared]).encode(), digest_size=8).hexdigest()
    names = (f"{name}={value}" for name, value in env.items() if name not in own)
    return Preloading(key=digest, server=(folder, *names, "--", *server_argv()), request=request)


def prelude(plan: Preloading, running: str | None) -> str:
    """The lines of shell before the test's own call of `orch_test`; `running`: the key of the slot's server.

    A server with another key is replaced: tests with the same key belong one after another.
    """
    start = "" if plan.key == running else f"orch_server {shlex.join(plan.server)}\n"
    return f"{start}request={shlex.quote(plan.request)}\n"


def launch(words: str) -> tuple[Launch, str | None]:
    """How a test was started and why it was not forked, from what follows `launch ` in the agent's record."""
    word, _, why = words.partition(" ")
    if word == "forked":
        return Launch.FORKED, None
    return Launch.PROCESS, why[:MAX_NOTE_CHARS] or None


@cache
def server_argv() -> tuple[str, ...]:
    """The server's words. Its text is packed: the agent reads its orders byte by byte."""
    text = files("orchestrator.engine").joinpath("preload_server.py").read_bytes()
    return ("python3", "-c", PROGRAM, base64.b64encode(zlib.compress(text, 9)).decode())
