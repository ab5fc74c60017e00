"""The types of single values in profiles.yaml, each with a reader and the JSON Schema of what it accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from orchestrator.config.schema import readers as r
from orchestrator.config.schema.parts import JsonSchema, Value
from orchestrator.config.units import DURATION_PATTERN, SIZE_PATTERN
from orchestrator.model.profiles import Network
from orchestrator.model.suites import Granularity, Preload, ResultsFormat, Runner

if TYPE_CHECKING:
    from collections.abc import Callable
    from enum import StrEnum

    from orchestrator.config.parsing.nodes import Node

T = TypeVar("T")

_SIZE_SCHEMA: JsonSchema = {"type": "string", "pattern": SIZE_PATTERN, "examples": ["512m", "1g"]}
_DURATION_SCHEMA: JsonSchema = {"type": "string", "pattern": DURATION_PATTERN, "examples": ["2s", "1m30s"]}
_MAX_COUNT = 1_000_000


def _text(read: Callable[[Node], str], pattern: str | None = None) -> Value[str]:
    return Value(read, {"type": "string", **({"pattern": pattern} if pattern else {"minLength": 1})})


def _size(*, at_least: int = 1) -> Value[int]:
    return Value(r.read_size(at_least=at_least), _SIZE_SCHEMA)


def _duration(*, zero: bool = False) -> Value[float]:
    return Value(r.read_duration(zero=zero), _DURATION_SCHEMA)


def _days(*, at_least: int) -> Value[int]:
    return Value(r.read_days(at_least=at_least), _DURATION_SCHEMA)


def _integer(low: int, high: int) -> Value[int]:
    return Value(r.read_integer(at_least=low, at_most=high), {"type": "integer", "minimum": low, "maximum": high})


def _number(low: float, high: float) -> Value[float]:
    return Value(r.read_number(at_least=low, at_most=high), {"type": "number", "minimum": low, "maximum": high})


def _word(*words: str) -> Value[str]:
    return Value(r.read_word(words), {"type": "string", "enum": list(words)})


def _word_of(choices: type[StrEnum]) -> Value[str]:
    return _word(*(choice.value for choice in choices))


def _or(word: str, value: Value[T]) -> Value[T | None]:
    """Return a type that reads `word` as None and everything else as `value` does."""
    return Value(r.read_or(word, value.reader), {"anyOf": [value.schema({}), {"const": word}]})


TEXT = _text(r.read_text)
NAME = _text(r.read_name, r.NAME_PATTERN)
ENV_NAME = _text(r.read_env_name, r.ENV_NAME_SCHEMA_PATTERN)
ENV_VALUE = Value(r.read_env_value, {"type": ["string", "number", "boolean", "null"]})
GLOB = _text(r.read_glob, r"^(?!/)(?!(.*/)?\.\.(/|$)).+$")
URL = _text(r.read_url, r"^([a-z][a-z0-9+]*://|[^:]*[./][^:]*$)")
FLAG = Value(r.read_flag, {"type": "boolean"})
VERSION = Value(r.read_integer(at_least=1, at_most=1), {"type": "integer", "const": 1})

SIZE = _size()
MEMORY = _size(at_least=r.MIN_MEMORY_BYTES)
SIZE_OR_OFF = _or(r.OFF, SIZE)
DURATION = _duration()
DURATION_OR_ZERO = _duration(zero=True)
DURATION_OR_OFF = _or(r.OFF, DURATION)
DAYS = _days(at_least=1)
DAYS_OF_RECORDS = _days(at_least=7)

CPUS = _number(0.01, 1024)
RATIO_OR_OFF = _or(r.OFF, _number(0.001, 1))
COUNT = _integer(1, _MAX_COUNT)
COUNT_OR_OFF = _or(r.OFF, COUNT)
COUNT_OR_AUTO = _or("auto", _integer(1, 4096))
RETRIES = _integer(0, 100)
PIDS = _integer(1, 1 << 22)
FILES = _integer(16, 1 << 31)

NETWORK = _word_of(Network)
RUNNER = _word_of(Runner)
RESULTS = _word_of(ResultsFormat)
GRANULARITY = _word_of(Granularity)
PRELOAD = _word_of(Preload)
CAPABILITY = _word(*r.ALLOWED_CAPABILITIES)
PASS_FAIL = _word("pass", "fail")
PASS_WARN_FAIL = _word("pass", "warn", "fail")
OFF_WARN_FAIL = _word(r.OFF, "warn", "fail")
OUTPUT = _word("immediate", "final", "never")
