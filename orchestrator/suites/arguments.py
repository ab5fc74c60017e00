"""Convert a test's path to a command-line argument, and build the environment of a test's command."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.model.suites import Suite

RESULTS_FILE = "junit.xml"
"""The name of the JUnit file that a runner writes in `$ORCH_OUTPUT_DIR`."""


def path_argument(suite: Suite, path: str) -> str:
    """Return `path` (relative to the root) relative to the suite's working folder, in a form that is never an
    option.

    `./` is put in front of names that begin with `-` (an option), `@` (an arguments file for pytest), or other
    punctuation.
    """
    # relpath asks the system for the working directory; most suites do not need it
    relative = path if suite.working_dir == "." else posixpath.relpath(path, suite.working_dir)
    return relative if relative[0].isalnum() or relative[0] in "_." else f"./{relative}"


def environment(suite: Suite, environ: Mapping[str, str], defaults: Mapping[str, str]) -> dict[str, str]:
    """Return the runner's default variables, overridden by those passed from the host, and those by the suite's
    own.
    """
    passed = {name: environ[name] for name in suite.pass_env if name in environ}
    return {**defaults, **passed, **suite.env}
