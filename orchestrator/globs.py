"""Path globs for suites, rules and filters: `*` matches within a folder, `**` across folders.

Python 3.11 has no `glob.translate`, and in `fnmatch` a `*` matches slashes.
"""

from __future__ import annotations

import re
from functools import lru_cache

from orchestrator.errors import UsageError

_MEMBER = re.compile(r"(.)(?:-(.))?", re.DOTALL)
_ANY_FOLDERS = r"(?:[^/]+/)*"


@lru_cache(maxsize=4096)
def compile_glob(pattern: str) -> re.Pattern[str]:
    """Compile a glob to a pattern for whole POSIX paths (use `fullmatch`). Raises UsageError for an invalid glob.

    `**/` matches any number of folders, including none; `/**` or `/` at the end everything below a folder; `?` one
    character; `[a-z]` and `[!a-z]` one character of a set. Only `**` matches slashes.
    """
    try:
        return re.compile(_translate(pattern), re.DOTALL)
    except re.error as error:
        raise UsageError(
            f"glob {pattern!r}: {error.msg}",
            remedy="write [[] for a literal bracket, and ranges from low to high",
        ) from None


def escape_glob(path: str) -> str:
    """Return a glob that matches only `path`."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in path)


def _translate(pattern: str) -> str:
    pattern = pattern.removeprefix("./")
    if pattern.endswith("/"):
        pattern += "**"
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        text, at = _token(pattern, at)
        if not (text == _ANY_FOLDERS and parts and parts[-1] == text):  # `**/**/` is the same and slow to match
            parts.append(text)
    return "".join(parts)


def _token(pattern: str, at: int) -> tuple[str, int]:
    """Return the regular expression for the token at `at`, and the position of the next token."""
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
    """Return the regular expression for the set `[abc]` or `[!abc]` at `at`, and the position behind it. A bracket
    that is not closed matches itself.
    """
    first = at + 2 if pattern.startswith(("[!", "[^"), at) else at + 1
    end = pattern.find("]", first + 1)  # the first character of a set may be `]`
    if end < 0:
        return r"\[", at + 1
    # Escape each member by itself: future Pythons read `--`, `&&` and the like as set operations.
    members = _MEMBER.sub(_escaped_member, pattern[first:end])
    negated = first == at + 2
    return (f"[^/{members}]" if negated else f"(?!/)[{members}]"), end + 1
