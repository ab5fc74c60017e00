"""The types of single values in profiles.yaml: a reader each, and the JSON Schema of what it accepts."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from orchestrator.config.schema import readers as r
from orchestrator.config.units import DURATION_PATTERN, SIZE_PATTERN
from orchestrator.model.profiles import Network
from orchestrator.model.suites import Granularity, Preload, ResultsFormat, Runner


def _text_schema(pattern: str | None = None, **more: object) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", **({"pattern": pattern} if pattern else {"minLength": 1}), **more})


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
_PRELOADS = tuple(p.value for p in Preload)
_MAX_COUNT = 1_000_000

Text = Annotated[str, PlainValidator(r.read_text), _text_schema()]
Name = Annotated[str, PlainValidator(r.read_name), _text_schema(r.NAME_PATTERN)]
EnvName = Annotated[str, PlainValidator(r.read_env_name), _text_schema(r.ENV_NAME_SCHEMA_PATTERN)]
EnvValue = Annotated[
    str, PlainValidator(r.read_env_value), WithJsonSchema({"type": ["string", "number", "boolean", "null"]})
]
Glob = Annotated[str, PlainValidator(r.read_glob), _text_schema(r"^(?!/)(?!(.*/)?\.\.(/|$)).+$")]
Url = Annotated[str, PlainValidator(r.read_url), _text_schema(r"^[a-z][a-z0-9+]*://")]
Flag = Annotated[bool, PlainValidator(r.read_flag), WithJsonSchema({"type": "boolean"})]

Size = Annotated[int, PlainValidator(r.read_size()), WithJsonSchema(_SIZE_SCHEMA)]
Memory = Annotated[int, PlainValidator(r.read_size(at_least=r.MIN_MEMORY_BYTES)), WithJsonSchema(_SIZE_SCHEMA)]
SizeOrOff = Annotated[
    int | None, PlainValidator(r.read_or(r.OFF, r.read_size())), _either_schema(_SIZE_SCHEMA, r.OFF)
]
Duration = Annotated[float, PlainValidator(r.read_duration()), WithJsonSchema(_DURATION_SCHEMA)]
DurationOrZero = Annotated[float, PlainValidator(r.read_duration(zero=True)), WithJsonSchema(_DURATION_SCHEMA)]
DurationOrOff = Annotated[
    float | None, PlainValidator(r.read_or(r.OFF, r.read_duration())), _either_schema(_DURATION_SCHEMA, r.OFF)
]
DaysOfRecords = Annotated[int, PlainValidator(r.read_days(at_least=7)), WithJsonSchema(_DURATION_SCHEMA)]
Days = Annotated[int, PlainValidator(r.read_days(at_least=1)), WithJsonSchema(_DURATION_SCHEMA)]

Cpus = Annotated[
    float,
    PlainValidator(r.read_number(at_least=0.01, at_most=1024)),
    WithJsonSchema(_range_schema("number", 0.01, 1024)),
]
RatioOrOff = Annotated[
    float | None,
    PlainValidator(r.read_or(r.OFF, r.read_number(at_least=0.001, at_most=1))),
    _either_schema(_range_schema("number", 0.001, 1), r.OFF),
]
Version = Annotated[
    int,
    PlainValidator(r.read_integer(at_least=1, at_most=1)),
    WithJsonSchema({"type": "integer", "const": 1}),
]
Count = Annotated[
    int,
    PlainValidator(r.read_integer(at_least=1, at_most=_MAX_COUNT)),
    WithJsonSchema(_range_schema("integer", 1, _MAX_COUNT)),
]
Inodes = Annotated[
    int,
    PlainValidator(r.read_integer(at_least=16, at_most=1 << 31)),
    WithJsonSchema(_range_schema("integer", 16, 1 << 31)),
]
Pids = Annotated[
    int,
    PlainValidator(r.read_integer(at_least=1, at_most=1 << 22)),
    WithJsonSchema(_range_schema("integer", 1, 1 << 22)),
]
Retries = Annotated[
    int,
    PlainValidator(r.read_integer(at_least=0, at_most=100)),
    WithJsonSchema(_range_schema("integer", 0, 100)),
]
CountOrOff = Annotated[
    int | None,
    PlainValidator(r.read_or(r.OFF, r.read_integer(at_least=1, at_most=_MAX_COUNT))),
    _either_schema(_range_schema("integer", 1, _MAX_COUNT), r.OFF),
]
CountOrAuto = Annotated[
    int | None,
    PlainValidator(r.read_or("auto", r.read_integer(at_least=1, at_most=4096))),
    _either_schema(_range_schema("integer", 1, 4096), "auto"),
]
ReuseCount = Annotated[
    int | None,
    PlainValidator(r.read_or("auto", r.read_integer(at_least=1, at_most=_MAX_COUNT))),
    _either_schema(_range_schema("integer", 1, _MAX_COUNT), "auto"),
]
NetworkWord = Annotated[str, PlainValidator(r.read_word(_NETWORKS)), _words_schema(_NETWORKS)]
RunnerWord = Annotated[str, PlainValidator(r.read_word(_RUNNERS)), _words_schema(_RUNNERS)]
ResultsWord = Annotated[str, PlainValidator(r.read_word(_RESULTS)), _words_schema(_RESULTS)]
GranularityWord = Annotated[str, PlainValidator(r.read_word(_GRANULARITIES)), _words_schema(_GRANULARITIES)]
PreloadWord = Annotated[str, PlainValidator(r.read_word(_PRELOADS)), _words_schema(_PRELOADS)]
CapabilityWord = Annotated[
    str, PlainValidator(r.read_word(r.ALLOWED_CAPABILITIES)), _words_schema(r.ALLOWED_CAPABILITIES)
]
PassFail = Annotated[str, PlainValidator(r.read_word(("pass", "fail"))), _words_schema(("pass", "fail"))]
PassWarnFail = Annotated[
    str, PlainValidator(r.read_word(("pass", "warn", "fail"))), _words_schema(("pass", "warn", "fail"))
]
OffWarnFail = Annotated[
    str, PlainValidator(r.read_word((r.OFF, "warn", "fail"))), _words_schema((r.OFF, "warn", "fail"))
]
OutputWord = Annotated[str, PlainValidator(r.read_word(_OUTPUT_WORDS)), _words_schema(_OUTPUT_WORDS)]
