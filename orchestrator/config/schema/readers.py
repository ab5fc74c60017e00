"""Readers of single values in profiles.yaml: a `Scalar` in, a value out, or what would have been accepted.

The error's place is not theirs to say: it is found by the path that the validator reports.
"""

from __future__ import annotations

import math
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic_core import PydanticCustomError

from orchestrator.config.parsing.problems import shown, suggestion
from orchestrator.config.parsing.yaml_tree import Scalar
from orchestrator.config.units import (
    DURATION_EXAMPLES,
    SIZE_EXAMPLES,
    UnitError,
    parse_duration,
    parse_size,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ALLOWED_CAPABILITIES = ("IPC_LOCK", "NET_BIND_SERVICE", "SYS_PTRACE")
"""What a test may be given back: none of these reaches outside its container."""
MIN_MEMORY_BYTES = 6 << 20
"""Engines refuse to start a container with less."""
OFF = "off"

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"
ENV_NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,254}$"
ENV_NAME_SCHEMA_PATTERN = r"^(?!ORCH(_|$))" + ENV_NAME_PATTERN[1:]
_INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]{0,17})\Z")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?\Z")
_NOT_FINITE = re.compile(r"[+-]?\.?(nan|inf|infinity)\Z", re.IGNORECASE)


def refuse(message: str) -> NoReturn:
    """Fail validation with a message for the user."""
    raise PydanticCustomError("config", "{message}", {"message": message})


def _scalar(value: object, expected: str) -> Scalar:
    if isinstance(value, Scalar):
        if value.kind == "null":
            refuse(f"no value is given; expected {expected}")
        return value
    refuse(f"expected {expected}, not a {'list' if isinstance(value, list) else 'mapping'}")


def _plain(value: object, expected: str) -> str:
    """Text of a value that is no text in YAML (a number, true)."""
    scalar = _scalar(value, expected)
    if scalar.quoted:
        refuse(f"expected {expected}, not a text; remove the quotes around {shown(scalar.text)}")
    return scalar.text


def read_text(value: object, expected: str = "a text") -> str:
    """A non-empty text; numbers and the like must be quoted, so that all YAML readers agree."""
    scalar = _scalar(value, expected)
    if scalar.kind != "text":
        refuse(f"{shown(scalar.text)} is a {scalar.kind} in YAML; expected {expected}: put it in quotes")
    if not scalar.text or "\0" in scalar.text:
        refuse(f"expected {expected}, " + ("not a NUL character" if scalar.text else "not an empty one"))
    return scalar.text


def read_size(*, at_least: int = 1) -> Callable[[object], int]:
    """Return a function that reads a size in bytes."""

    def read(value: object) -> int:
        scalar = _scalar(value, f"a size such as {SIZE_EXAMPLES}")
        try:
            size_bytes = parse_size(scalar.text)
        except UnitError as error:
            refuse(f"{error.message}; {error.remedy}")
        if size_bytes < at_least:
            least = (
                f"at least {at_least >> 20}m, less than that no engine starts" if at_least > 1 else "more than 0"
            )
            refuse(f"{shown(scalar.text)} is too small; expected {least}")
        return size_bytes

    return read


def read_duration(*, zero: bool = False) -> Callable[[object], float]:
    """Return a function that reads a duration in seconds."""

    def read(value: object) -> float:
        scalar = _scalar(value, f"a duration such as {DURATION_EXAMPLES}")
        try:
            seconds = parse_duration(scalar.text)
        except UnitError as error:
            refuse(f"{error.message}; {error.remedy}")
        if not seconds and not zero:
            refuse(f"{shown(scalar.text)} is no time at all; expected more than 0, such as {DURATION_EXAMPLES}")
        return seconds

    return read


def read_days(*, at_least: int) -> Callable[[object], int]:
    """Return a function that reads a duration as a number of whole days."""

    def read(value: object) -> int:
        seconds = read_duration()(value)
        if seconds % 86400 or seconds < at_least * 86400:
            refuse(f"expected whole days, at least {at_least}d")
        return int(seconds // 86400)

    return read


def read_integer(*, at_least: int, at_most: int) -> Callable[[object], int]:
    """Reader of a whole number, in decimal digits without leading zeros."""
    expected = f"a whole number from {at_least} to {at_most}"

    def read(value: object) -> int:
        word = _plain(value, expected)
        if not _INTEGER.match(word) or not at_least <= int(word) <= at_most:
            refuse(f"{shown(word)} is not accepted; expected {expected}")
        return int(word)

    return read


def read_number(*, at_least: float, at_most: float) -> Callable[[object], float]:
    """Return a function that reads a finite number."""
    expected = f"a number from {at_least:g} to {at_most:g}"

    def read(value: object) -> float:
        word = _plain(value, expected)
        if _NOT_FINITE.match(word):
            refuse(f"{shown(word)} is no finite number; expected {expected}")
        if not _NUMBER.match(word) or not at_least <= float(word) <= at_most or math.isinf(float(word)):
            refuse(f"{shown(word)} is not accepted; expected {expected}")
        return float(word)

    return read


def read_flag(value: object) -> bool:
    """Read true or false; the other words of YAML 1.1 for them are refused."""
    word = _plain(value, "true or false")
    if word.lower() not in ("true", "false"):
        yes = word.lower() in ("yes", "on", "y")
        hint = "; write `true`" if yes else "; write `false`" if word.lower() in ("no", OFF, "n") else ""
        refuse(f"{shown(word)} is not accepted; expected true or false{hint}")
    return word.lower() == "true"


def read_word(words: tuple[str, ...]) -> Callable[[object], str]:
    """Return a function that reads one of `words`."""

    def read(value: object) -> str:
        word = _scalar(value, "one of " + ", ".join(words)).text
        if word not in words:
            refuse(f"{shown(word)} is not known here{suggestion(word, words)}")
        return word

    return read


def read_or(word: str, read: Callable[[object], Any]) -> Callable[[object], Any]:
    """None for `word`, else what `read` makes of it."""

    def read_either(value: object) -> Any:
        return None if isinstance(value, Scalar) and value.text == word else read(value)

    return read_either


def read_name(value: object) -> str:
    """A name of a profile, suite, image or preset: it becomes part of labels and container names."""
    word = value if isinstance(value, str) else read_text(value, "a name")
    if not re.match(NAME_PATTERN.replace("$", r"\Z"), word):
        refuse(f"{shown(word)} is no name; expected letters, digits, `-` and `_`, at most 63, no `-` in front")
    return word


def read_env_name(value: object) -> str:
    """A name of an environment variable."""
    word = value if isinstance(value, str) else read_text(value, "a variable's name")
    if not re.match(ENV_NAME_PATTERN.replace("$", r"\Z"), word):
        refuse(f"{shown(word)} is no variable's name; expected letters, digits and `_`")
    if word == "ORCH" or word.startswith("ORCH_"):
        refuse(f"{shown(word)} cannot be set: names that begin with ORCH_ are given to tests by orch itself")
    return word


def read_env_value(value: object) -> str:
    """Any scalar, as written: `1` and `true` are as good as their quoted forms in an environment."""
    scalar = value if isinstance(value, Scalar) else _scalar(value, "a value")
    if scalar.kind == "null":
        return ""
    if "\0" in scalar.text:
        refuse("a variable cannot hold a NUL character")
    return scalar.text


def read_glob(value: object) -> str:
    """A glob that stays inside the project; a leading `./` is dropped."""
    pattern = read_text(value, "a glob such as test/**/test_*.py")
    while pattern.startswith("./"):
        pattern = pattern[2:].lstrip("/")
    if pattern.startswith("/") or re.match(r"[A-Za-z]:", pattern):
        refuse(f"{shown(pattern)} is absolute; globs are relative to the project's root")
    if ".." in PurePosixPath(pattern).parts:
        refuse(f"{shown(pattern)} leaves the project; globs cannot contain `..`")
    if "\\" in pattern or not pattern:
        refuse(f"{shown(pattern)} is no glob; folders are separated by `/`")
    return pattern


def read_url(value: object) -> str:
    """A database URL, or a file's path."""
    url = read_text(value, "a file such as nightly.db, or a database URL")
    if not re.match(r"[a-z][a-z0-9+]*://", url) and not re.fullmatch(r"[^:]*[./][^:]*", url):
        # the text is not repeated: it may hold a password
        refuse("this is no database; expected a file such as nightly.db, or a URL such as postgresql://…")
    return url
