"""The types of single values in profiles.yaml: each parses its text once and says what it accepts.

The validator hands a `Scalar` (text and place) to each of these; the error's place is found by the path that
the validator reports. Each type carries the JSON Schema of what it accepts.
"""

from __future__ import annotations

import math
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

from pydantic import PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from orchestrator.config.positions import Scalar
from orchestrator.config.problems import shown, suggestion
from orchestrator.config.units import (
    DURATION_EXAMPLES,
    DURATION_PATTERN,
    SIZE_EXAMPLES,
    SIZE_PATTERN,
    UnitError,
    parse_duration,
    parse_size,
)
from orchestrator.model import Granularity, Network, ResultsFormat, Runner

if TYPE_CHECKING:
    from collections.abc import Callable

ALLOWED_CAPABILITIES = ("IPC_LOCK", "NET_BIND_SERVICE", "SYS_PTRACE")
"""What a test may be given back: none of these reaches outside its container."""
MIN_MEMORY_BYTES = 6 << 20
"""Engines refuse to start a container with less."""
OFF = "off"

_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"
_ENV_NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,254}$"
_ENV_NAME_SCHEMA_PATTERN = r"^(?!ORCH(_|$))" + _ENV_NAME_PATTERN[1:]
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


def text(value: object, expected: str = "a text") -> str:
    """A non-empty text; numbers and the like must be quoted, so that all YAML readers agree."""
    scalar = _scalar(value, expected)
    if scalar.kind != "text":
        refuse(f"{shown(scalar.text)} is a {scalar.kind} in YAML; expected {expected}: put it in quotes")
    if not scalar.text or "\0" in scalar.text:
        refuse(f"expected {expected}, " + ("not a NUL character" if scalar.text else "not an empty one"))
    return scalar.text


def _size(*, at_least: int = 1) -> Callable[[object], int]:
    def read(value: object) -> int:
        scalar = _scalar(value, f"a size such as {SIZE_EXAMPLES}")
        try:
            size_bytes = parse_size(scalar.text)
        except UnitError as error:
            refuse(f"{error.message}; {error.remedy}")
        if size_bytes < at_least:
            least = (
                f"at least {at_least >> 20}m, less than that no engine starts"
                if at_least > 1
                else "more than 0"
            )
            refuse(f"{shown(scalar.text)} is too small; expected {least}")
        return size_bytes

    return read


def _duration(*, zero: bool = False) -> Callable[[object], float]:
    def read(value: object) -> float:
        scalar = _scalar(value, f"a duration such as {DURATION_EXAMPLES}")
        try:
            seconds = parse_duration(scalar.text)
        except UnitError as error:
            refuse(f"{error.message}; {error.remedy}")
        if not seconds and not zero:
            refuse(
                f"{shown(scalar.text)} is no time at all; expected more than 0, such as {DURATION_EXAMPLES}"
            )
        return seconds

    return read


def _days(*, at_least: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        seconds = _duration()(value)
        if seconds % 86400 or seconds < at_least * 86400:
            refuse(f"expected whole days, at least {at_least}d")
        return int(seconds // 86400)

    return read


def _integer(*, at_least: int, at_most: int) -> Callable[[object], int]:
    expected = f"a whole number from {at_least} to {at_most}"

    def read(value: object) -> int:
        word = _plain(value, expected)
        if not _INTEGER.match(word) or not at_least <= int(word) <= at_most:
            refuse(f"{shown(word)} is not accepted; expected {expected}")
        return int(word)

    return read


def _number(*, at_least: float, at_most: float) -> Callable[[object], float]:
    expected = f"a number from {at_least:g} to {at_most:g}"

    def read(value: object) -> float:
        word = _plain(value, expected)
        if _NOT_FINITE.match(word):
            refuse(f"{shown(word)} is no finite number; expected {expected}")
        if not _NUMBER.match(word) or not at_least <= float(word) <= at_most or math.isinf(float(word)):
            refuse(f"{shown(word)} is not accepted; expected {expected}")
        return float(word)

    return read


def _flag(value: object) -> bool:
    word = _plain(value, "true or false")
    if word.lower() not in ("true", "false"):
        yes = word.lower() in ("yes", "on", "y")
        hint = "; write `true`" if yes else "; write `false`" if word.lower() in ("no", OFF, "n") else ""
        refuse(f"{shown(word)} is not accepted; expected true or false{hint}")
    return word.lower() == "true"


def _word(words: tuple[str, ...]) -> Callable[[object], str]:
    def read(value: object) -> str:
        word = _scalar(value, "one of " + ", ".join(words)).text
        if word not in words:
            refuse(f"{shown(word)} is not known here{suggestion(word, words)}")
        return word

    return read


def _or(word: str, read: Callable[[object], Any]) -> Callable[[object], Any]:
    """None for `word`, else what `read` makes of it."""

    def read_either(value: object) -> Any:
        return None if isinstance(value, Scalar) and value.text == word else read(value)

    return read_either


def name(value: object) -> str:
    """A name of a profile, suite, image or preset: it becomes part of labels and container names."""
    word = value if isinstance(value, str) else text(value, "a name")
    if not re.match(_NAME_PATTERN.replace("$", r"\Z"), word):
        refuse(
            f"{shown(word)} is no name; expected letters, digits, `-` and `_`, at most 63, no `-` in front"
        )
    return word


def env_name(value: object) -> str:
    """A name of an environment variable."""
    word = value if isinstance(value, str) else text(value, "a variable's name")
    if not re.match(_ENV_NAME_PATTERN.replace("$", r"\Z"), word):
        refuse(f"{shown(word)} is no variable's name; expected letters, digits and `_`")
    if word == "ORCH" or word.startswith("ORCH_"):
        refuse(f"{shown(word)} cannot be set: names that begin with ORCH_ are given to tests by orch itself")
    return word


def _env_value(value: object) -> str:
    """Any scalar, as written: `1` and `true` are as good as their quoted forms in an environment."""
    scalar = value if isinstance(value, Scalar) else _scalar(value, "a value")
    if scalar.kind == "null":
        return ""
    if "\0" in scalar.text:
        refuse("a variable cannot hold a NUL character")
    return scalar.text


def _glob(value: object) -> str:
    pattern = text(value, "a glob such as test/**/test_*.py")
    while pattern.startswith("./"):
        pattern = pattern[2:].lstrip("/")
    if pattern.startswith("/") or re.match(r"[A-Za-z]:", pattern):
        refuse(f"{shown(pattern)} is absolute; globs are relative to the project's root")
    if ".." in PurePosixPath(pattern).parts:
        refuse(f"{shown(pattern)} leaves the project; globs cannot contain `..`")
    if "\\" in pattern or not pattern:
        refuse(f"{shown(pattern)} is no glob; folders are separated by `/`")
    return pattern


def _url(value: object) -> str:
    url = text(value, "a database URL such as sqlite:///resources.db")
    if not re.match(r"[a-z][a-z0-9+]*://", url):  # the text is not repeated: it may hold a password
        refuse("this is no database URL; expected a form such as sqlite:///resources.db or postgresql://…")
    return url


def _text_schema(pattern: str | None = None, **more: object) -> WithJsonSchema:
    return WithJsonSchema(
        {"type": "string", **({"pattern": pattern} if pattern else {"minLength": 1}), **more}
    )


def _range_schema(kind: str, low: float, high: float) -> dict[str, Any]:
    return {"type": kind, "minimum": low, "maximum": high}


def _either_schema(first: dict[str, Any], word: str) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [first, {"const": word}]})


def _words_schema(words: tuple[str, ...]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": list(words)})


_SIZE_SCHEMA: dict[str, Any] = {"type": "string", "pattern": SIZE_PATTERN, "examples": ["512m", "1g"]}
_DURATION_SCHEMA: dict[str, Any] = {
    "type": "string",
    "pattern": DURATION_PATTERN,
    "examples": ["2s", "1m30s"],
}
_OUTPUT_WORDS = ("immediate", "final", "never")
_NETWORKS = tuple(n.value for n in Network)
_RUNNERS = tuple(r.value for r in Runner)
_RESULTS = tuple(r.value for r in ResultsFormat)
_GRANULARITIES = tuple(g.value for g in Granularity)
_MAX_COUNT = 1_000_000

Text = Annotated[str, PlainValidator(text), _text_schema()]
Name = Annotated[str, PlainValidator(name), _text_schema(_NAME_PATTERN)]
EnvName = Annotated[str, PlainValidator(env_name), _text_schema(_ENV_NAME_SCHEMA_PATTERN)]
EnvValue = Annotated[
    str, PlainValidator(_env_value), WithJsonSchema({"type": ["string", "number", "boolean", "null"]})
]
Glob = Annotated[str, PlainValidator(_glob), _text_schema(r"^(?!/)(?!(.*/)?\.\.(/|$)).+$")]
Url = Annotated[str, PlainValidator(_url), _text_schema(r"^[a-z][a-z0-9+]*://")]
Flag = Annotated[bool, PlainValidator(_flag), WithJsonSchema({"type": "boolean"})]

Size = Annotated[int, PlainValidator(_size()), WithJsonSchema(_SIZE_SCHEMA)]
Memory = Annotated[int, PlainValidator(_size(at_least=MIN_MEMORY_BYTES)), WithJsonSchema(_SIZE_SCHEMA)]
SizeOrOff = Annotated[int | None, PlainValidator(_or(OFF, _size())), _either_schema(_SIZE_SCHEMA, OFF)]
Duration = Annotated[float, PlainValidator(_duration()), WithJsonSchema(_DURATION_SCHEMA)]
DurationOrZero = Annotated[float, PlainValidator(_duration(zero=True)), WithJsonSchema(_DURATION_SCHEMA)]
DurationOrOff = Annotated[
    float | None, PlainValidator(_or(OFF, _duration())), _either_schema(_DURATION_SCHEMA, OFF)
]
DaysOfRecords = Annotated[int, PlainValidator(_days(at_least=7)), WithJsonSchema(_DURATION_SCHEMA)]
Days = Annotated[int, PlainValidator(_days(at_least=1)), WithJsonSchema(_DURATION_SCHEMA)]

Cpus = Annotated[
    float,
    PlainValidator(_number(at_least=0.01, at_most=1024)),
    WithJsonSchema(_range_schema("number", 0.01, 1024)),
]
RatioOrOff = Annotated[
    float | None,
    PlainValidator(_or(OFF, _number(at_least=0.001, at_most=1))),
    _either_schema(_range_schema("number", 0.001, 1), OFF),
]
Version = Annotated[
    int, PlainValidator(_integer(at_least=1, at_most=1)), WithJsonSchema({"type": "integer", "const": 1})
]
Count = Annotated[
    int,
    PlainValidator(_integer(at_least=1, at_most=_MAX_COUNT)),
    WithJsonSchema(_range_schema("integer", 1, _MAX_COUNT)),
]
Inodes = Annotated[
    int,
    PlainValidator(_integer(at_least=16, at_most=1 << 31)),
    WithJsonSchema(_range_schema("integer", 16, 1 << 31)),
]
Pids = Annotated[
    int,
    PlainValidator(_integer(at_least=1, at_most=1 << 22)),
    WithJsonSchema(_range_schema("integer", 1, 1 << 22)),
]
Retries = Annotated[
    int, PlainValidator(_integer(at_least=0, at_most=100)), WithJsonSchema(_range_schema("integer", 0, 100))
]
CountOrOff = Annotated[
    int | None,
    PlainValidator(_or(OFF, _integer(at_least=1, at_most=_MAX_COUNT))),
    _either_schema(_range_schema("integer", 1, _MAX_COUNT), OFF),
]
CountOrAuto = Annotated[
    int | None,
    PlainValidator(_or("auto", _integer(at_least=1, at_most=4096))),
    _either_schema(_range_schema("integer", 1, 4096), "auto"),
]
NetworkWord = Annotated[str, PlainValidator(_word(_NETWORKS)), _words_schema(_NETWORKS)]
RunnerWord = Annotated[str, PlainValidator(_word(_RUNNERS)), _words_schema(_RUNNERS)]
ResultsWord = Annotated[str, PlainValidator(_word(_RESULTS)), _words_schema(_RESULTS)]
GranularityWord = Annotated[str, PlainValidator(_word(_GRANULARITIES)), _words_schema(_GRANULARITIES)]
CapabilityWord = Annotated[
    str, PlainValidator(_word(ALLOWED_CAPABILITIES)), _words_schema(ALLOWED_CAPABILITIES)
]
PassFail = Annotated[str, PlainValidator(_word(("pass", "fail"))), _words_schema(("pass", "fail"))]
PassWarnFail = Annotated[
    str, PlainValidator(_word(("pass", "warn", "fail"))), _words_schema(("pass", "warn", "fail"))
]
OffWarnFail = Annotated[
    str, PlainValidator(_word((OFF, "warn", "fail"))), _words_schema((OFF, "warn", "fail"))
]
OutputWord = Annotated[str, PlainValidator(_word(_OUTPUT_WORDS)), _words_schema(_OUTPUT_WORDS)]
