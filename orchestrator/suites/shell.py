"""Build the command of a shell script: `sh FILE`, or the file itself if executable; exit code 77 means skipped, as
in automake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.model.suites import ResultsFormat, Suite
from orchestrator.model.tests import Command
from orchestrator.suites.arguments import RESULTS_FILE, path_argument

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.suites.source import Source

SKIP_EXIT_CODES = frozenset({77})


def build_command(suite: Suite, path: str, source: Source, env: Mapping[str, str]) -> Command:
    """Return the command of one script. The suite's `command` words follow the file as its arguments."""
    file = path_argument(suite, path)
    if "/" not in file:  # otherwise `sh` would search PATH, and the kernel would not find it
        file = f"./{file}"
    itself = source.executable and source.has_shebang
    results = suite.results or ResultsFormat.EXIT_CODE
    return Command(
        argv=(*(() if itself else ("sh",)), file, *suite.command),
        working_dir=suite.working_dir,
        env=env,
        results=results,
        results_file=RESULTS_FILE if results is ResultsFormat.JUNIT else None,
        skip_exit_codes=SKIP_EXIT_CODES,
    )
