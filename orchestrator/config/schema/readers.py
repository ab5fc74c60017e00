"""Readers of single values in profiles.yaml. Each returns the value of a node, or raises RefusedError with what
would have been accepted; the caller adds the place.
"""

from __future__ import annotations

import math
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NoReturn, TypeVar

from orchestrator.config.parsing.nodes import Items, Scalar
from orchestrator.config.parsing.problems import shown, suggestion
from orchestrator.config.schema.parts import RefusedError
from orchestrator.config.units import (
    DURATION_EXAMPLES,
    SIZE_EXAMPLES,
    UnitError,
    parse_duration,
    parse_size,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.config.parsing.nodes import Node

T = TypeVar("T")

ALLOWED_CAPABILITIES = ("IPC_LOCK", "NET_BIND_SERVICE", "SYS_PTRACE")
"""The capabilities that a profile may give back to tests: none of them reaches outside the container."""
MIN_MEMORY_BYTES = 6 << 20
"""The smallest memory limit with which engines start a container."""
OFF = "off"

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"
ENV_NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,254}$"
ENV_NAME_SCHEMA_PATTERN = r"^(?!ORCH(_|$))" + ENV_NAME_PATTERN[1:]
_INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]{0,17})\Z")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?\Z")
_NOT_FINITE = re.compile(r"[+-]?\.?(nan|inf|infinity)\Z", re.IGNORECASE)


def refuse(message: str) -> NoReturn:
    """Raise RefusedError with a message for the user."""
    raise RefusedError(message)


def _scalar(node: Node, expected: str) -> Scalar:
    if isinstance(node, Scalar):
        if node.kind == "null":
            refuse(f"no value is given; expected {expected}")
        return node
    refuse(f"expected {expected}, not a {'list' if isinstance(node, Items) else 'mapping'}")


def _plain(node: Node, expected: str) -> str:
    """Return the text of a number or of true or false; a quoted one is refused."""
    scalar = _scalar(node, expected)
    if scalar.quoted:
        refuse(f"expected {expected}, not a text; remove the quotes around {shown(scalar.text)}")
    return scalar.text


def read_text(node: Node, expected: str = "a text") -> str:
    """Read a non-empty text. Texts that look like numbers must be quoted, so that all YAML readers agree."""
    scalar = _scalar(node, expected)
    if scalar.kind != "text":
        refuse(f"{shown(scalar.text)} is a {scalar.kind} in YAML; expected {expected}: put it in quotes")
    if not scalar.text or "\0" in scalar.text:
        refuse(f"expected {expected}, " + ("not a NUL character" if scalar.text else "not an empty one"))
    return scalar.text


def read_size(*, at_least: int = 1) -> Callable[[Node], int]:
    """Return a function that reads a size in bytes."""

    def read(node: Node) -> int:
        scalar = _scalar(node, f"a size such as {SIZE_EXAMPLES}")
        try:
            size_bytes = parse_size(scalar.text)
        except UnitError as error:
            refuse(f"{error.message}; {error.remedy}")
        if size_bytes < at_least:
            least = f"at least {at_least >> 20}m, engines start nothing smaller" if at_least > 1 else "more than 0"
            refuse(f"{shown(scalar.text)} is too small; expected {least}")
        return size_bytes

    return read


def read_duration(*, zero: bool = False) -> Callable[[Node], float]:
    """Return a function that reads a duration in seconds."""

    def read(node: Node) -> float:
        scalar = _scalar(node, f"a duration such as {DURATION_EXAMPLES}")
        try:
            seconds = parse_duration(scalar.text)
        except UnitError as error:
            refuse(f"{error.message}; {error.remedy}")
        if not seconds and not zero:
            refuse(f"{shown(scalar.text)} is too short; expected more than 0, such as {DURATION_EXAMPLES}")
        return seconds

    return read


def read_days(*, at_least: int) -> Callable[[Node], int]:
    """Return a function that reads a duration as a number of whole days."""

    def read(node: Node) -> int:
        seconds = read_duration()(node)
        if seconds % 86400 or seconds < at_least * 86400:
            refuse(f"expected whole days, at least {at_least}d")
        return int(seconds // 86400)

    return read


def read_integer(*, at_least: int, at_most: int) -> Callable[[Node], int]:
    """Return a function that reads a whole number, in decimal digits without leading zeros."""
    expected = f"a whole number from {at_least} to {at_most}"

    def read(node: Node) -> int:
        word = _plain(node, expected)
        if not _INTEGER.match(word) or not at_least <= int(word) <= at_most:
            refuse(f"{shown(word)} is not accepted; expected {expected}")
        return int(word)

    return read


def read_number(*, at_least: float, at_most: float) -> Callable[[Node], float]:
    """Return a function that reads a finite number."""
    expected = f"a number from {at_least:g} to {at_most:g}"

    def read(node: Node) -> float:
        word = _plain(node, expected)
        if _NOT_FINITE.match(word):
            refuse(f"{shown(word)} is not a finite number; expected {expected}")
        if not _NUMBER.match(word) or not at_least <= float(word) <= at_most or math.isinf(float(word)):
            refuse(f"{shown(word)} is not accepted; expected {expected}")
        return float(word)

    return read


def read_flag(node: Node) -> bool:
    """Read true or false. Other words that YAML 1.1 has for them (yes, on, no, off) are refused."""
    word = _plain(node, "true or false")
    if word.lower() not in ("true", "false"):
        yes = word.lower() in ("yes", "on", "y")
        hint = "; write `true`" if yes else "; write `false`" if word.lower() in ("no", OFF, "n") else ""
        refuse(f"{shown(word)} is not accepted; expected true or false{hint}")
    return word.lower() == "true"


def read_word(words: tuple[str, ...]) -> Callable[[Node], str]:
    """Return a function that reads one of `words`."""

    def read(node: Node) -> str:
        word = _scalar(node, "one of " + ", ".join(words)).text
        if word not in words:
            refuse(f"{shown(word)} is not known{suggestion(word, words)}")
        return word

    return read


def read_or(word: str, read: Callable[[Node], T]) -> Callable[[Node], T | None]:
    """Return a function that reads `word` as None and everything else by `read`."""

    def read_either(node: Node) -> T | None:
        return None if isinstance(node, Scalar) and node.text == word else read(node)

    return read_either


def is_name(word: str) -> bool:
    """Return True if `word` can be the name of a profile, suite, image or preset."""
    return re.match(NAME_PATTERN.replace("$", r"\Z"), word) is not None


def read_name(node: Node) -> str:
    """Read the name of a profile, suite, image or preset: it becomes part of labels and container names."""
    word = read_text(node, "a name")
    if not is_name(word):
        refuse(f"{shown(word)} is not a name; expected letters, digits, `-` and `_`, at most 63, no `-` in front")
    return word


def read_env_name(node: Node) -> str:
    """Read the name of an environment variable."""
    word = read_text(node, "a variable's name")
    if not re.match(ENV_NAME_PATTERN.replace("$", r"\Z"), word):
        refuse(f"{shown(word)} is not a variable name; expected letters, digits and `_`")
    if word == "ORCH" or word.startswith("ORCH_"):
        refuse(f"{shown(word)} cannot be set: names that begin with ORCH_ are given to tests by orch itself")
    return word


def read_env_value(node: Node) -> str:
    """Read the text of any scalar: `1` and `true` need no quotes here. No value is an empty text."""
    scalar = node if isinstance(node, Scalar) else _scalar(node, "a value")
    if scalar.kind == "null":
        return ""
    if "\0" in scalar.text:
        refuse("a variable cannot hold a NUL character")
    return scalar.text


def read_glob(node: Node) -> str:
    """Read a glob that stays inside the project; a leading `./` is removed."""
    pattern = read_text(node, "a glob such as test/**/test_*.py")
    while pattern.startswith("./"):
        pattern = pattern[2:].lstrip("/")
    if pattern.startswith("/") or re.match(r"[A-Za-z]:", pattern):
        refuse(f"{shown(pattern)} is absolute; globs are relative to the project's root")
    if ".." in PurePosixPath(pattern).parts:
        refuse(f"{shown(pattern)} leaves the project; globs cannot contain `..`")
    if "\\" in pattern or not pattern:
        refuse(f"{shown(pattern)} is not a glob; folders are separated by `/`")
    return pattern


def read_url(node: Node) -> str:
    """Read the URL of a database, or the path of a file."""
    url = read_text(node, "a file such as nightly.db, or a database URL")
    if not re.match(r"[a-z][a-z0-9+]*://", url) and not re.fullmatch(r"[^:]*[./][^:]*", url):
        # the text is not repeated: it may hold a password
        refuse("this is not a database; expected a file such as nightly.db, or a URL such as postgresql://…")
    return url
