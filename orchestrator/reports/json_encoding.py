"""JSON of plain values and of the model's: dataclasses, enums, paths, times. ASCII, in one line or indented.

By orjson, which takes nearly all of them as they are, five to ten times as fast as Python's own encoder with a
function for what that does not know. The rest (half a surrogate pair, a number beyond 64 bits, a key that is no
text) goes by `plain` and Python's.
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
"""What Python makes of undecodable bytes in file names and arguments."""
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")
_SCALARS = (str, int, float, bool, type(None))


def to_json(document: object) -> str:
    """Indented, with nothing after the last brace. NaN and infinity become null. TypeError: a value of a type that
    reports do not know.
    """
    return _text(document, orjson.OPT_INDENT_2)


def to_json_line(document: object) -> str:
    """As `to_json`, in one line."""
    return _text(document, 0)


def _text(document: object, layout: int) -> str:
    try:
        text = orjson.dumps(document, default=plain, option=layout).decode()
    except TypeError:
        layouts: Any = {"indent": 2} if layout else {"separators": (",", ":")}
        return json.dumps(plain(document), allow_nan=False, **layouts)
    # only text has such characters, and there an escape says the same
    return text if text.isascii() else _BEYOND_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], text)


def plain(value: object) -> Any:
    """`value` with nothing in it that JSON cannot say; dataclasses become objects of their fields.

    Text from undecodable bytes gets U+FFFD. Raises TypeError for a type that reports do not know.
    """
    if type(value) in _SCALARS:  # most values are; 10,000 tests have a million of them
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
    """Name -> value, in the class's order."""
    return {field.name: getattr(value, field.name) for field in fields(value)}
