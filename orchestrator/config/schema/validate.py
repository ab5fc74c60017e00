"""One layer's tree -> a validated Document, and a Problem with its place for each thing that is wrong.

Validation goes on after an error: what is wrong is cut out and the rest is validated again, so that the
checks between settings (see check.py) can still run and all problems of a file are reported at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from orchestrator.config.parsing.problems import Place, Problem, shown, suggestion
from orchestrator.config.parsing.yaml_tree import Items, Node, Scalar, Table, plain_tree
from orchestrator.config.schema import document as shapes

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from orchestrator.config.settings import Layer

Path = tuple[str | int, ...]
"""Keys and list indices from the document's root."""

_OPTIONAL_SECTIONS = ("profiles", "rules", "suites", "images", "run", "retention", "presets")
_MAX_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class ValidLayer:
    """What one source of settings gives, validated, with the places."""

    layer: Layer
    document: shapes.Document
    tree: Table
    damaged: bool
    """True: something was cut out, so what is missing here may have been given."""

    def place(self, *path: str | int) -> Place:
        """Where the value at `path` stands; that of its nearest parent if it is not given itself."""
        return place_of(self.tree, path)


def validate(tree: Table, layer: Layer) -> tuple[ValidLayer, list[Problem]]:
    """Validate a layer; never raises for what the user wrote."""
    kept = _without_empty_sections(tree)
    problems: list[Problem] = []
    for round_number in range(_MAX_ROUNDS):
        try:
            document = shapes.Document.model_validate(plain_tree(kept))
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=True)
        else:
            return ValidLayer(layer, document, kept, damaged=bool(problems)), problems
        if round_number == 0:
            problems = [_problem(kept, detail) for detail in details]
        for cut in {_cut(detail) for detail in details}:
            kept = _mark_cut(kept, cut)
        kept = _drop_marked(kept)
    return ValidLayer(layer, shapes.Document(), Table({}, {}, tree.place), damaged=True), problems


def node_at(tree: Node, path: Path) -> Node | None:
    """Return the node at `path`, or None."""
    node: Node | None = tree
    for step in path:
        if isinstance(node, Table) and isinstance(step, str):
            node = node.entries.get(step)
        elif isinstance(node, Items) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
        else:
            return None
    return node


def place_of(tree: Node, path: Path) -> Place:
    """Return the place of the value at `path`, or of its nearest parent."""
    for length in range(len(path), -1, -1):
        node = node_at(tree, path[:length])
        if node is not None:
            return node.place
    return tree.place


def key_place(tree: Node, path: Path) -> Place:
    """Place of the key at the end of `path`."""
    parent = node_at(tree, path[:-1])
    if isinstance(parent, Table) and path[-1] in parent.key_places:
        return parent.key_places[str(path[-1])]
    return place_of(tree, path)


def dotted(path: Path) -> str:
    """`profiles.fast.memory`, `rules[0].match`: how settings are called in messages."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _problem(tree: Table, detail: ErrorDetails) -> Problem:
    path, kind = detail["loc"], detail["type"]
    if path and path[-1] == "[key]":
        return Problem(key_place(tree, path[:-1]), f"{dotted(path[:-2])}: {detail['msg']}")
    match kind:
        case "extra_forbidden":
            key = str(path[-1])
            where = f"{dotted(path[:-1])}: " if path[:-1] else ""
            nearest = suggestion(key, _model_at(path[:-1]).model_fields)
            return Problem(key_place(tree, path), f"{where}unknown key {shown(key)}{nearest}")
        case "missing":
            return Problem(place_of(tree, path[:-1]), f"{dotted(path[:-1])}: the key `{path[-1]}` is missing")
        case "tuple_type" | "list_type":
            message = "expected a list, such as [one, two]"
        case "dict_type" | "model_type" | "model_attributes_type":
            message = "expected keys with values" + _accepted_keys(path)
        case "too_short":
            message = "expected at least one entry"
        case _:
            message = detail["msg"]
    return Problem(place_of(tree, path), f"{dotted(path) or 'document'}: {message}")


def _accepted_keys(path: Path) -> str:
    if path in (("profiles",), ("images",), ("presets",)) or path[-1:] in (("env",), ("build_args",)):
        return ", such as {name: …}"
    return ": " + ", ".join(sorted(_model_at(path).model_fields))


_MODELS: dict[tuple[str, int], type[BaseModel]] = {
    ("profiles", 2): shapes.ProfilePart,
    ("profiles", 3): shapes.ThresholdsPart,
    ("rules", 2): shapes.RulePart,
    ("suites", 2): shapes.SuitePart,
    ("images", 2): shapes.ImagePart,
    ("run", 1): shapes.RunPart,
    ("retention", 1): shapes.RetentionPart,
}
"""First key and length of a path -> the model that stands there."""


def _model_at(path: Path) -> type[BaseModel]:
    return _MODELS.get((str(path[0]), len(path)), shapes.Document) if path else shapes.Document


def _cut(detail: ErrorDetails) -> Path:
    """Path of the smallest part that validation can do without."""
    path = detail["loc"]
    if detail["type"] == "missing":
        return path[:-1]
    match path:
        case ("profiles", _, "thresholds", *_):
            return path[:4]
        case ("profiles" | "rules" | "suites" | "images", *_):
            return path[: 2 if path[-1] == "[key]" and len(path) == 3 else 3]
        case ("run" | "retention" | "presets", *_):
            return path[:2]
        case _:
            return path[:1]


_CUT = Scalar("", Place("cut"))


def _mark_cut(tree: Table, path: Path) -> Table:
    """The tree with the node at `path` replaced by a mark; indices stay as they are until all are marked."""

    def replaced(node: Node, rest: Path) -> Node:
        if not rest:
            return _CUT
        step = rest[0]
        if isinstance(node, Table) and isinstance(step, str) and step in node.entries:
            entries = {**node.entries, step: replaced(node.entries[step], rest[1:])}
            return Table(entries, node.key_places, node.place)
        if isinstance(node, Items) and isinstance(step, int) and step < len(node.items):
            items = list(node.items)
            items[step] = replaced(items[step], rest[1:])
            return Items(tuple(items), node.place)
        return node

    result = replaced(tree, path)
    return result if isinstance(result, Table) else Table({}, {}, tree.place)


def _drop_marked(tree: Table) -> Table:
    def dropped(node: Node) -> Node:
        match node:
            case Table():
                entries = {key: dropped(value) for key, value in node.entries.items() if value is not _CUT}
                return Table(entries, node.key_places, node.place)
            case Items():
                return Items(tuple(dropped(item) for item in node.items if item is not _CUT), node.place)
            case Scalar():
                return node

    result = dropped(tree)
    assert isinstance(result, Table)  # noqa: S101 - a table stays one; this tells the type checker
    return result


def _without_empty_sections(tree: Table) -> Table:
    """A section whose lines are all commented out is as good as none."""
    entries = {
        key: value
        for key, value in tree.entries.items()
        if not (key in _OPTIONAL_SECTIONS and isinstance(value, Scalar) and value.kind == "null")
    }
    return Table(entries, tree.key_places, tree.place)
