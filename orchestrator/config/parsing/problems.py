"""What is wrong, and where: places, the nearest valid word, and one error for all problems of a file."""

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
    """Where a key or a value stands. Line and column count from 1; 0: the source has no lines."""

    source: str
    """Name of the file as the user should read it, of a variable, or of a flag."""
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
    """Raise one ConfigError with all problems, a line each, in the order of their places."""
    lines = [str(problem) for problem in sorted(set(problems))]
    if not lines:
        return
    if len(lines) > _MAX_SHOWN:
        lines[_MAX_SHOWN:] = [f"and {len(lines) - _MAX_SHOWN} more"]
    raise ConfigError("\n".join(lines), remedy="`orch schema` prints what is accepted; nothing has been started")


def suggestion(word: str, accepted: Iterable[str]) -> str:
    """`; did you mean `x`? accepted: …`: the nearest valid word, and all of them."""
    words = sorted(accepted)
    nearest = difflib.get_close_matches(word.casefold(), [w.casefold() for w in words], n=1, cutoff=0.6)
    original = next((w for w in words if nearest and w.casefold() == nearest[0]), None)
    listed = ", ".join(words) if words else "none is defined"
    return (f"; did you mean `{original}`?" if original else ";") + f" accepted: {listed}"


def shown(text: str) -> str:
    """Text of the user for a message: quoted, bounded, and without control characters."""
    bounded = text if len(text) <= 60 else text[:60] + "…"
    return "`" + "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in bounded) + "`"
