"""How a test's path becomes a word of a command line, and what every runner's command has in common."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.model.suites import Suite

RESULTS_FILE = "junit.xml"
"""Where a runner writes JUnit, in `$ORCH_OUTPUT_DIR`."""


def path_argument(suite: Suite, path: str) -> str:
    """`path` (relative to the root) as seen from the suite's working folder, never taken for an option.

    `./` goes in front of names that begin with `-` (an option), `@` (an arguments file for pytest), or
    other punctuation.
    """
    # relpath asks the system for the working directory; most suites do not need it
    relative = path if suite.working_dir == "." else posixpath.relpath(path, suite.working_dir)
    return relative if relative[0].isalnum() or relative[0] in "_." else f"./{relative}"


def environment(suite: Suite, environ: Mapping[str, str], defaults: Mapping[str, str]) -> dict[str, str]:
    """The runner's defaults, then what is handed through from the host, then what the suite sets itself."""
    passed = {name: environ[name] for name in suite.pass_env if name in environ}
    return {**defaults, **passed, **suite.env}
