"""Plans tests that are forked from a pytest that already runs in their slot, and writes the agent's lines. Pure.

The program that forks them runs inside the container: preload_server.py.
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
"""The longest request. A FIFO holds 64 KiB, so the agent never blocks while it writes one, even to a dead server.
"""

_SUITE_NAME = "junit_suite_name="


@dataclass(frozen=True, slots=True, kw_only=True)
class PreloadPlan:
    """The server and template that one test is forked from, and the request for it."""

    key: str
    """The key of the server: tests with the same key can be forked from the same one."""
    folder: str
    """The working directory."""
    template: str
    """The key of the server's template that the test is forked from."""
    imports: bool
    """True if the test's module is imported in the template."""
    request: str
    """The request to the server, one line of ASCII; see preload_server.py."""


def plan(assignment: Assignment) -> PreloadPlan | None:
    """Return how the test is forked; None if it runs as a program of its own.

    It does if its suite has no preload, or if its slot is used once.
    """
    command = assignment.test.command
    if command.preload is Preload.OFF or assignment.profile.reuse < 2:
        return None
    own = {name: text for name, text in hardening.own_env(assignment).items() if name not in command.env}
    folder = hardening.work_folder(command)
    found = preloading(command.preload, hardening.argv_inside(command), folder, own)
    return found and replace(found, key=f"{found.key} {hardening.environment(assignment)}")


def preloading(mode: Preload, argv: Sequence[str], folder: str, own: Mapping[str, str]) -> PreloadPlan | None:
    """Return how the command `argv` is forked; None if it is not a pytest command that can be forked.

    `argv` holds the words inside the container, the target last. `own` is the environment of this test alone,
    which is not set yet while pytest is configured.
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
    """Return whether processes or imports have to be set up before the test, at a cost that is not the test's.

    `running` and `template` are the keys of the slot's server and of the template of the test before this one.
    """
    return plan.imports or plan.key != running or plan.template != template


def setup_script(plan: PreloadPlan, running: str | None, template: str | None) -> str:
    """Return the agent's lines that start the server if needed, and set the request for the test.

    They come after the lines of the environment and before those of the test. A server with another key is
    replaced, so tests with the same key should run one after another.
    """
    start = "" if plan.key == running else f"orch_server {shlex.join((plan.folder, *server_argv()))}\n"
    ready = "prepare=yes\n" if must_prepare(plan, running, template) else ""
    return f"{start}{ready}request={shlex.quote(plan.request)}\n"


@cache
def server_argv() -> tuple[str, ...]:
    """Return the server's command. Its program is compressed, because an agent may read orders byte by byte."""
    text = files("orchestrator.engine.agent").joinpath("preload_server.py").read_bytes()
    return ("python3", "-c", PROGRAM, base64.b64encode(zlib.compress(text, 9)).decode())
