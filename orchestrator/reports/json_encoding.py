"""JSON text of plain values and of the model's: dataclasses, enums, paths, times. ASCII, on one line or indented.

orjson encodes nearly all values itself, five to ten times as fast as Python's encoder with a fallback function.
The others (lone surrogates, numbers beyond 64 bits, keys that are not text) are converted by `plain` and encoded
by Python.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Document = dict[str, Any]

_SURROGATE = re.compile("[\ud800-\udfff]")
"""Surrogates, by which Python represents undecodable bytes in file names and arguments."""
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")
_SCALARS = (str, int, float, bool, type(None))


def to_json(document: object) -> str:
    """Return `document` as indented JSON without a final newline. NaN and infinity become null. Raises TypeError
    for a value of an unknown type.
    """
    return _text(document, orjson.OPT_INDENT_2)


def to_json_line(document: object) -> str:
    """Return `document` as JSON on one line; otherwise as `to_json`."""
    return _text(document, 0)


def _text(document: object, layout: int) -> str:
    try:
        text = orjson.dumps(document, default=plain, option=layout).decode()
    except TypeError:
        layouts: Any = {"indent": 2} if layout else {"separators": (",", ":")}
        return json.dumps(plain(document), allow_nan=False, **layouts)
    # such characters occur only inside strings, where an escape is equivalent
    return text if text.isascii() else _BEYOND_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], text)


def plain(value: object) -> Any:
    """Return `value` as dicts, lists, text, numbers and None; dataclasses become objects of their fields.

    Text from undecodable bytes gets U+FFFD. Raises TypeError for a value of an unknown type.
    """
    if type(value) in _SCALARS:  # true for most values; 10,000 tests have a million of them
        return _plain_scalar(value)
    if isinstance(value, Enum):
        value = value.value
    elif is_dataclass(value) and not isinstance(value, type):
        value = fields_of(value)
    if isinstance(value, Mapping):
        return {_plain_scalar(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(plain, value))
    return _plain_scalar(value)


def _plain_scalar(value: object) -> str | float | int | None:
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (str, bytes, PurePath)):
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        return text if text.isascii() else _SURROGATE.sub("\ufffd", text)
    raise TypeError(f"no JSON for {type(value).__name__}")


def fields_of(value: DataclassInstance) -> Document:
    """Return the fields of a dataclass by name, in the order of the class."""
    return {field.name: getattr(value, field.name) for field in fields(value)}
