"""Build the command of a test from a suite's own template of words, without a shell."""

from __future__ import annotations

import difflib
import posixpath
import re
from typing import TYPE_CHECKING

from orchestrator.errors import UsageError
from orchestrator.model.suites import ResultsFormat, Suite
from orchestrator.model.tests import Command
from orchestrator.suites.arguments import RESULTS_FILE, path_argument

if TYPE_CHECKING:
    from collections.abc import Mapping

SKIP_EXIT_CODES = frozenset({77})
PLACEHOLDERS = ("test", "name", "output_dir")
_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")


def build_command(suite: Suite, path: str, env: Mapping[str, str]) -> Command:
    """Return the command of one test. Raises UsageError if there is no template or it has an unknown placeholder.

    `{test}` is the file, relative to the working folder; `{name}` is its name without folder and last suffix;
    `{output_dir}` is kept and replaced by the executor; `{{` and `}}` are literal braces.
    """
    check_template(suite)
    values = {
        "test": path_argument(suite, path),
        "name": posixpath.splitext(posixpath.basename(path))[0],
        "output_dir": "{output_dir}",
    }
    results = suite.results or ResultsFormat.EXIT_CODE
    return Command(
        argv=tuple(_fill(word, values) for word in suite.command),
        working_dir=suite.working_dir,
        env=env,
        results=results,
        results_file=RESULTS_FILE if results is ResultsFormat.JUNIT else None,
        skip_exit_codes=SKIP_EXIT_CODES,
    )


def check_template(suite: Suite) -> None:
    """Raise UsageError if the suite's template has no words or an unknown placeholder."""
    if not suite.command:
        raise UsageError(
            f"suite {suite.name!r}: runner command needs a command",
            remedy='for example command: ["prove", "{test}"]',
        )
    for word in suite.command:
        for found in _TOKEN.finditer(word):
            name = found.group(1)
            if name is not None and name not in PLACEHOLDERS:
                raise UsageError(_unknown(suite, name, word), remedy="write {{ and }} for literal braces")


def _unknown(suite: Suite, name: str, word: str) -> str:
    nearest = difflib.get_close_matches(name, PLACEHOLDERS, n=1)
    hint = f"did you mean {{{nearest[0]}}}?" if nearest else "known are {test}, {name} and {output_dir}"
    return f"suite {suite.name!r}: unknown placeholder {{{name}}} in {word!r}: {hint}"


def _fill(word: str, values: Mapping[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        name = found.group(1)
        return found.group()[0] if name is None else values[name]

    return _TOKEN.sub(value, word)
