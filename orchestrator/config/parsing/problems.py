"""Problems in the configuration: their places, suggestions of valid words, and one error for all of a file."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_SHOWN = 50


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """The position of a key or a value. Line and column count from 1; they are 0 if the source has no lines."""

    source: str
    """The name of a file as messages show it, of a variable, or of another source."""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake in the configuration, with its place."""

    place: Place
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


def raise_if_any(problems: Iterable[Problem]) -> None:
    """Raise one ConfigError with one line for each problem, in the order of their places, if there are any."""
    lines = [str(problem) for problem in sorted(set(problems))]
    if not lines:
        return
    if len(lines) > _MAX_SHOWN:
        lines[_MAX_SHOWN:] = [f"and {len(lines) - _MAX_SHOWN} more"]
    raise ConfigError("\n".join(lines), remedy="`orch schema` prints what is accepted; nothing has been started")


def suggestion(word: str, accepted: Iterable[str]) -> str:
    """Return the end of a message about an unknown word: the nearest accepted word, then all of them."""
    words = sorted(accepted)
    nearest = difflib.get_close_matches(word.casefold(), [w.casefold() for w in words], n=1, cutoff=0.6)
    original = next((w for w in words if nearest and w.casefold() == nearest[0]), None)
    listed = ", ".join(words) if words else "none is defined"
    return (f"; did you mean `{original}`?" if original else ";") + f" accepted: {listed}"


def shown(text: str) -> str:
    """Return text of the user for a message: quoted, at most 60 characters, control characters escaped."""
    bounded = text if len(text) <= 60 else text[:60] + "…"
    return "`" + "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in bounded) + "`"
