"""Tests forked from a pytest that their slot has started before: what the slot's agent is told. Pure.

The program that does it runs inside the container: preload_server.py.
"""

from __future__ import annotations

import base64
import json
import posixpath
import shlex
import zlib
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from orchestrator.engine.isolation import hardening
from orchestrator.model.suites import Preload

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.model.tests import Assignment

PYTEST_WORDS = ("python3", "-m", "pytest")
PROGRAM = (
    "import sys, zlib, binascii; text = zlib.decompress(binascii.a2b_base64(sys.argv.pop(1))); "
    "exec(compile(text, 'orch', 'exec'), {'__name__': 'orch_preload'})"
)
MAX_REQUEST_BYTES = 32 << 10
"""A FIFO holds 64 KiB: the agent never waits to write one, even where the server has died."""

_SUITE_NAME = "junit_suite_name="


@dataclass(frozen=True, slots=True, kw_only=True)
class PreloadPlan:
    """How one test gets forked."""

    key: str
    """Tests with the same key can be forked from the same server."""
    folder: str
    """The working directory."""
    template: str
    """Tests with the same one are forked from the same template of their server."""
    imports: bool
    """Its module is imported in the template."""
    request: str
    """One line of ASCII; see preload_server.py."""


def plan(assignment: Assignment) -> PreloadPlan | None:
    """None where the test is to be a program of its own: it asks for no more, or its slot is used once."""
    command = assignment.test.command
    if command.preload is Preload.OFF or assignment.profile.reuse < 2:
        return None
    own = {name: text for name, text in hardening.own_env(assignment).items() if name not in command.env}
    folder = hardening.work_folder(command)
    found = preloading(command.preload, hardening.argv_inside(command), folder, own)
    return found and replace(found, key=f"{found.key} {hardening.environment(assignment)}")


def preloading(mode: Preload, argv: Sequence[str], folder: str, own: Mapping[str, str]) -> PreloadPlan | None:
    """None where `argv` is no pytest that can be forked.

    `argv`: words as they are inside the container, the target last; `own`: environment of this test alone, which
    is not there yet while pytest is configured.
    """
    if tuple(argv[:3]) != PYTEST_WORDS or len(argv) < 4:
        return None
    words, target = list(argv[3:]), argv[-1]
    name = next((word for word in reversed(words) if word.startswith(_SUITE_NAME)), None)
    request = {
        "argv": words,
        "target": target,
        "suite_name": name and name.removeprefix(_SUITE_NAME),
        "env": dict(own),
        "folder": posixpath.dirname(target.partition("[")[0].partition("::")[0]),
        "collect": mode is Preload.COLLECT,
    }
    line = json.dumps(request)
    if len(line) > MAX_REQUEST_BYTES:
        return None
    return PreloadPlan(
        key=json.dumps([mode, folder, [word for word in words[:-1] if word != name]]),
        folder=folder,
        template=str(request["folder"]),
        imports=mode is Preload.COLLECT,
        request=line,
    )


def must_prepare(plan: PreloadPlan, running: str | None, template: str | None) -> bool:
    """Whether something has to be set up before the test, that is charged to all: `running` and `template` are the
    keys of the slot's server and of the template of the test before this one.
    """
    return plan.imports or plan.key != running or plan.template != template


def setup_script(plan: PreloadPlan, running: str | None, template: str | None) -> str:
    """The agent's lines before the test's own, and after those of its environment. A server with another key than
    the test's is replaced, so tests with the same key belong one after another.
    """
    start = "" if plan.key == running else f"orch_server {shlex.join((plan.folder, *server_argv()))}\n"
    ready = "prepare=yes\n" if must_prepare(plan, running, template) else ""
    return f"{start}{ready}request={shlex.quote(plan.request)}\n"


@cache
def server_argv() -> tuple[str, ...]:
    """The server's words. Its text is packed: an agent without a folder reads its orders byte by byte."""
    text = files("orchestrator.engine.agent").joinpath("preload_server.py").read_bytes()
    return ("python3", "-c", PROGRAM, base64.b64encode(zlib.compress(text, 9)).decode())
