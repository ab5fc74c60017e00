"""Path globs, the same in suites, rules and filters: `*` stays inside a folder, `**` spans folders.

Python 3.11 has no `glob.translate`, and `fnmatch` lets `*` cross a slash. A stage may not import another
stage, so this stands beside the model.
"""

from __future__ import annotations

import re
from functools import lru_cache

from orchestrator.errors import UsageError

_MEMBER = re.compile(r"(.)(?:-(.))?", re.DOTALL)
_ANY_FOLDERS = r"(?:[^/]+/)*"


@lru_cache(maxsize=4096)
def compile_glob(pattern: str) -> re.Pattern[str]:
    """A compiled pattern for whole POSIX paths (use `fullmatch`). UsageError: the glob cannot be read.

    `**/` is any number of folders (none too), a final `/**` or `/` everything below, `?` one character,
    `[a-z]` and `[!a-z]` one of a set. All but `**` stay inside one folder.
    """
    try:
        return re.compile(_translate(pattern), re.DOTALL)
    except re.error as error:
        raise UsageError(
            f"glob {pattern!r}: {error.msg}",
            remedy="write [[] for a literal bracket, and ranges from low to high",
        ) from None


def _translate(pattern: str) -> str:
    pattern = pattern.removeprefix("./")
    if pattern.endswith("/"):
        pattern += "**"
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        text, at = _token(pattern, at)
        if not (text == _ANY_FOLDERS and parts and parts[-1] == text):  # `**/**/` would only backtrack
            parts.append(text)
    return "".join(parts)


def _token(pattern: str, at: int) -> tuple[str, int]:
    """The regular expression of what stands at `at`, and where the next token begins."""
    segment_start = at == 0 or pattern[at - 1] == "/"
    if pattern.startswith("**/", at) and segment_start:
        return _ANY_FOLDERS, at + 3
    if pattern.startswith("**", at):
        return (".+" if segment_start else ".*"), at + 2
    if pattern[at] == "*":
        return "[^/]*", at + 1
    if pattern[at] == "?":
        return "[^/]", at + 1
    if pattern[at] == "[":
        return _character_set(pattern, at)
    return re.escape(pattern[at]), at + 1


def _escaped_member(found: re.Match[str]) -> str:
    return "-".join(re.escape(end) for end in found.groups() if end)


def _character_set(pattern: str, at: int) -> tuple[str, int]:
    """`[abc]` or `[!abc]`; a bracket that is never closed stands for itself."""
    first = at + 2 if pattern.startswith(("[!", "[^"), at) else at + 1
    end = pattern.find("]", first + 1)  # the first character of a set may be `]`
    if end < 0:
        return r"\[", at + 1
    # Each member escaped by itself: `--`, `&&` and the like are set operations of future Pythons.
    members = _MEMBER.sub(_escaped_member, pattern[first:end])
    negated = first == at + 2
    return (f"[^/{members}]" if negated else f"(?!/)[{members}]"), end + 1
