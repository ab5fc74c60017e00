"""The tree that all sources of settings are read into: scalars, lists and tables, each with its place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.config.parsing.problems import Place

_NULL = re.compile(r"(~|null|Null|NULL|)\Z")
_BOOL = re.compile(r"(true|True|TRUE|false|False|FALSE)\Z")
_INT = re.compile(r"([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z")
_FLOAT = re.compile(
    r"([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z"
)


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value, with its text as it was written."""

    text: str
    place: Place
    quoted: bool = False
    untyped: bool = False
    """True if the source has texts only (a variable, a flag), so that any type may be read from the text."""

    @property
    def kind(self) -> str:
        """The scalar's type in YAML 1.2's core schema: null, true/false, number or text."""
        if self.quoted or self.untyped:
            return "text"
        if _NULL.match(self.text):
            return "null"
        if _BOOL.match(self.text):
            return "true/false"
        return "number" if _INT.match(self.text) or _FLOAT.match(self.text) else "text"


@dataclass(frozen=True, slots=True)
class Items:
    """A YAML sequence."""

    items: tuple[Node, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Table:
    """A YAML mapping whose keys are unique texts."""

    entries: Mapping[str, Node]
    key_places: Mapping[str, Place]
    place: Place


Node = Scalar | Items | Table


def as_tree(value: object, place: Place) -> Node:
    """Return the tree of a value made of dicts, tuples and scalars. Every node has the place `place`."""
    if isinstance(value, dict):
        entries = {str(key): as_tree(item, place) for key, item in value.items()}
        return Table(entries, dict.fromkeys(entries, place), place)
    if isinstance(value, tuple):
        return Items(tuple(as_tree(item, place) for item in value), place)
    return Scalar(str(value), place, untyped=True)
