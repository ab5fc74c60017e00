"""The parts that a schema of profiles.yaml is made of: keys, lists and mappings that read a tree of YAML nodes.

A type reads a node, collects a Problem with its place for each mistake, and describes as JSON Schema what it
accepts. Reading goes on after a mistake, so that one call finds all mistakes of a file.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast, overload

from orchestrator.config.parsing.nodes import Items, Node, Scalar, Table
from orchestrator.config.parsing.problems import Problem, shown, suggestion

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.config.parsing.problems import Place

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
P = TypeVar("P", bound="Part")
JsonSchema = dict[str, Any]


class RefusedError(ValueError):
    """A value that is not accepted; the message says what would be."""


class InvalidError(Exception):
    """A value that cannot be used; its problems have been added to the list."""


class Type(ABC, Generic[T_co]):
    """A type of values in profiles.yaml."""

    @abstractmethod
    def read(self, node: Node, path: str, problems: list[Problem]) -> T_co:
        """Return the value of `node`, or add to `problems` and raise InvalidError.

        `path` is the value's dotted name in messages.
        """

    @abstractmethod
    def schema(self, definitions: JsonSchema) -> JsonSchema:
        """Return the JSON Schema of accepted values; those of named parts are added to `definitions`."""


class Value(Type[T_co]):
    """A single value, read by a function that returns it or raises RefusedError."""

    def __init__(self, reader: Callable[[Node], T_co], schema: JsonSchema) -> None:
        self.reader = reader
        self._schema = schema

    def read(self, node: Node, path: str, problems: list[Problem]) -> T_co:
        """Return the value that the function reads from `node`."""
        try:
            return self.reader(node)
        except RefusedError as error:
            problems.append(Problem(node.place, f"{path}: {error}"))
            raise InvalidError from None

    def schema(self, definitions: JsonSchema) -> JsonSchema:  # noqa: ARG002 - part of the interface
        """Return the JSON Schema of accepted values."""
        return dict(self._schema)


class ListOf(Type[tuple[T_co, ...]]):
    """A list of values of one type. Invalid parts are left out of a list of parts; in any other list, one invalid
    item makes the list invalid.
    """

    def __init__(self, item: Type[T_co], *, at_least: int = 0) -> None:
        self._item = item
        self._at_least = at_least

    def read(self, node: Node, path: str, problems: list[Problem]) -> tuple[T_co, ...]:
        """Return the values of the items."""
        if not isinstance(node, Items):
            problems.append(Problem(node.place, f"{path}: expected a list, such as [one, two]"))
            raise InvalidError
        if len(node.items) < self._at_least:
            problems.append(Problem(node.place, f"{path}: expected at least one entry"))
            raise InvalidError
        values = []
        for index, item in enumerate(node.items):
            try:
                values.append(self._item.read(item, f"{path}[{index}]", problems))
            except InvalidError:
                continue
        if len(values) < len(node.items) and not isinstance(self._item, PartOf):
            raise InvalidError
        return tuple(values)

    def schema(self, definitions: JsonSchema) -> JsonSchema:
        """Return the JSON Schema of the list."""
        least = {"minItems": self._at_least} if self._at_least else {}
        return {"type": "array", "items": self._item.schema(definitions), **least}


class MappingOf(Type["Mapping[str, T_co]"]):
    """A mapping with names of the user's choice. With `keep_valid`, invalid entries are left out; otherwise one
    invalid entry makes the mapping invalid.
    """

    def __init__(self, name: Value[str], value: Type[T_co], *, keep_valid: bool = False) -> None:
        self._name = name
        self._value = value
        self._keep_valid = keep_valid

    def read(self, node: Node, path: str, problems: list[Problem]) -> Mapping[str, T_co]:
        """Return the valid values by their names."""
        if not isinstance(node, Table):
            problems.append(Problem(node.place, f"{path}: expected keys with values, such as {{name: …}}"))
            raise InvalidError
        values = {}
        for key, item in node.entries.items():
            valid_name = self._is_name(key, node.key_places[key], path, problems)
            try:
                value = self._value.read(item, f"{path}.{key}", problems)
            except InvalidError:
                continue
            if valid_name:
                values[key] = value
        if len(values) < len(node.entries) and not self._keep_valid:
            raise InvalidError
        return values

    def _is_name(self, key: str, place: Place, path: str, problems: list[Problem]) -> bool:
        try:
            self._name.read(Scalar(key, place, quoted=True), path, problems)
        except InvalidError:
            return False
        return True

    def schema(self, definitions: JsonSchema) -> JsonSchema:
        """Return the JSON Schema of a mapping whose keys match the pattern of names."""
        pattern = self._name.schema(definitions)["pattern"]
        values = {pattern: self._value.schema(definitions)}
        return {"type": "object", "patternProperties": values, "additionalProperties": False}


class PartOf(Type[P]):
    """A mapping with known keys."""

    def __init__(self, part: type[P]) -> None:
        self._part = part

    def read(self, node: Node, path: str, problems: list[Problem]) -> P:
        """Return the part; keys with invalid values are left out, unless they are required."""
        keys = self._part.keys
        if not isinstance(node, Table):
            listed = ", ".join(sorted(keys))
            problems.append(Problem(node.place, f"{path or 'document'}: expected keys with values: {listed}"))
            raise InvalidError
        given: dict[str, Any] = {}
        for key, value in node.entries.items():
            if key not in keys:
                where = f"{path}: " if path else ""
                text = f"{where}unknown key {shown(key)}{suggestion(key, keys)}"
                problems.append(Problem(node.key_places[key], text))
                continue
            if keys[key].may_be_empty and isinstance(value, Scalar) and value.kind == "null":
                continue  # all lines of the section are commented out
            try:
                given[key] = keys[key].type.read(value, f"{path}.{key}" if path else key, problems)
            except InvalidError:
                continue
        required = [key for key in keys if keys[key].required]
        missing = [key for key in required if key not in node.entries]
        problems += [Problem(node.place, f"{path}: the key `{key}` is missing") for key in missing]
        if any(key not in given for key in required):
            raise InvalidError
        return self._part({key: given[key] for key in keys if key in given}, node, path)

    def schema(self, definitions: JsonSchema) -> JsonSchema:
        """Add the part's JSON Schema to `definitions` and return a reference to it."""
        definitions[self._part.__name__] = self._part.schema(definitions)
        return {"$ref": f"#/$defs/{self._part.__name__}"}


_NONE: Any = None


class Key(Generic[T]):
    """A key of a part: its type, its description for the user, and its value in Python where it is not given."""

    name: str

    def __init__(
        self,
        type_: Type[T],
        description: str,
        *,
        default: T = _NONE,
        required: bool = False,
        may_be_empty: bool = False,
    ) -> None:
        """`required`: the part is invalid without the key. `may_be_empty`: the key may be written without a value,
        which then counts as not given. Keys of a section need no default: the built-in layer has one for each.
        """
        self.type = type_
        self.description = description
        self.default = default
        self.required = required
        self.may_be_empty = may_be_empty

    def __set_name__(self, owner: type[Part], name: str) -> None:
        self.name = name

    @overload
    def __get__(self, part: None, owner: type[Part]) -> Key[T]: ...

    @overload
    def __get__(self, part: Part, owner: type[Part]) -> T: ...

    def __get__(self, part: Part | None, owner: type[Part]) -> Key[T] | T:
        return self if part is None else cast("T", part.given.get(self.name, self.default))

    def schema(self, definitions: JsonSchema) -> JsonSchema:
        """Return the JSON Schema of the key's value."""
        schema = self.type.schema(definitions)
        if self.may_be_empty:
            schema = {"anyOf": [schema, {"type": "null"}]}
        return {"description": self.description, **schema}


class Part:
    """A mapping of profiles.yaml with known keys, as one source gives it. Its attributes are the keys' values; a
    key that is not given has its default.
    """

    __slots__ = ("given", "path", "table")
    keys: ClassVar[Mapping[str, Key[Any]]] = {}
    section: ClassVar[bool] = False
    """True if layers merge the part key by key; False if a stronger layer replaces it whole."""

    def __init__(self, given: Mapping[str, Any], table: Table, path: str) -> None:
        """`given`: valid values in the order of `keys`; `table`: the nodes they were read from; `path`: the part's
        dotted name in messages.
        """
        self.given = given
        self.table = table
        self.path = path

    def __init_subclass__(cls) -> None:
        cls.keys = {name: key for name, key in vars(cls).items() if isinstance(key, Key)}

    def place(self, key: str) -> Place:
        """Return the place of the key's value, or the part's own place where the key is not given."""
        return self.table.entries[key].place if key in self.table.entries else self.table.place

    def key_place(self, key: str, name: str) -> Place:
        """Return the place of the word `name` in the mapping at `key`, such as of an image's name in `images`."""
        mapping = self.table.entries[key]
        return mapping.key_places[name] if isinstance(mapping, Table) else mapping.place

    @classmethod
    def schema(cls, definitions: JsonSchema) -> JsonSchema:
        """Return the JSON Schema of the part."""
        required = [name for name, key in cls.keys.items() if key.required]
        return {
            "type": "object",
            "description": inspect.getdoc(cls),
            "properties": {name: key.schema(definitions) for name, key in cls.keys.items()},
            "additionalProperties": False,
            **({"required": required} if required else {}),
        }
