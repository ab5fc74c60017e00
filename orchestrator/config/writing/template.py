"""Write the profiles.yaml of `orch init`: valid, with comments, and with suites that match the project's tests."""

from __future__ import annotations

import os
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

from orchestrator.config.layers.defaults import DEFAULTS
from orchestrator.errors import UsageError
from orchestrator.globs import escape_glob

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA_FILE = ".orch/profiles.schema.json"
"""The path of the JSON Schema in the template's first line, for editors; `orch schema` prints its content."""

_PYTEST = ("test_*.py", "*_test.py")
_SHELL = ("*.test.sh", "*_test.sh", "test_*.sh")
_IGNORED_FOLDERS = {"node_modules", "venv", "env", "build", "dist", "__pycache__", "site-packages"}
_MAX_FILES = 50_000

_HEAD = f"""\
# yaml-language-server: $schema={SCHEMA_FILE}
# Resource profiles of this project's tests, for `orch run`; `orch plan` shows what would run where, and
# `orch show-config --origin` every setting with where its value came from.
# The schema for editors: orch schema > {SCHEMA_FILE}
version: 1

# A profile is a named bundle of limits. These are the built-in ones: change what you need, delete the rest
# (what is not given here keeps its built-in value). Sizes: 512m, 1g. Times: 500ms, 2s, 1m30s.
# More keys: outputs, shm, pids, nofile, log, tmpfs_inodes, grace, reuse, capabilities, thresholds, inherits.
"""
_RULES = """\

# Which tests run under which profile: the first rule that fits wins. Without a rule: default_profile.
default_profile: standard
rules:
#  - {match: "tests/unit/**", profile: fast}
#  - {marker: slow, profile: slow}        # pytest.mark.slow, or a comment "orch: profile=slow" in a test file
#  - {match: "tests/db/**", profile: intensive, group: database}   # one at a time
"""
_TAIL = """\

# run:
#   retries: 1             # a test that passes in the end is shown as flaky
#   violations: fail       # a broken budget fails the run (off, warn, fail)
"""
_NO_TESTS = """\

# No test file was found here. Which files are tests, and how they are run:
# suites:
#   - {name: pytest, match: ["tests/**/test_*.py"], runner: pytest}
#   - {name: shell, match: ["tests/**/*.test.sh"], runner: shell}
#   - {name: own, match: ["tests/**/*.case"], runner: command, command: ["./run-case", "{test}"]}
"""


def template(project_root: Path) -> str:
    """Return the text of a profiles.yaml for the project, with the suites whose files are found there."""
    if not project_root.is_dir():
        raise UsageError(f"{project_root} is not a folder", remedy="run `orch init` in the project's folder")
    return _HEAD + _profiles() + _RULES + _suites(project_root) + _TAIL


def _profiles() -> str:
    lines = ["profiles:"]
    profiles: Any = DEFAULTS["profiles"]
    for name, keys in profiles.items():
        shown = ("cpus", "memory", "timeout", "tmpfs", "network", "image")
        values = ", ".join(f"{key}: {keys[key]}" for key in shown)
        lines.append(f"  {name + ':':<10} {{{values}}}  # {keys['description']}")
    return "\n".join(lines) + "\n"


def _suites(root: Path) -> str:
    found: dict[str, set[str]] = {"pytest": set(), "shell": set()}
    for path in _files(root):
        folder, _, name = path.rpartition("/")
        top = folder.partition("/")[0]
        if not top.isprintable() or any(c in top for c in '\\"'):
            continue  # no glob of ours can name such a folder
        for runner, patterns in (("pytest", _PYTEST), ("shell", _SHELL)):
            pattern = next((pattern for pattern in patterns if fnmatch(name, pattern)), None)
            if pattern is not None:
                found[runner].add(f"{escape_glob(top)}/**/{pattern}" if top else pattern)
    lines = [_suite_line(runner, sorted(globs)) for runner, globs in found.items() if globs]
    if not lines:
        return _NO_TESTS
    head = "# Which files are tests, and how they are run: found here by `orch init`."
    return "\n".join(["", head, "suites:", *lines, ""])


def _suite_line(runner: str, globs: list[str]) -> str:
    match = ", ".join(f'"{glob}"' for glob in globs)
    return f"  - {{name: {runner}, match: [{match}], runner: {runner}}}"


def _files(root: Path) -> Iterator[str]:
    """Yield at most 50,000 POSIX paths below `root`, without hidden and generated folders and behind no links."""
    count = 0
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in _IGNORED_FOLDERS)
        prefix = os.path.relpath(folder, root).replace(os.sep, "/") + "/"
        for file in files:
            count += 1
            if count > _MAX_FILES:
                return
            yield prefix.removeprefix("./") + file
