"""Read YAML text into a tree of nodes with the place of each key and value.

Scalars keep their text: `on` stays `on` and `1:30` stays `1:30` (YAML 1.1 would make them True and 90), and
`512m` reaches the parser of sizes as it was written. Everything beyond plain data is refused: tags, merge keys,
duplicate keys (PyYAML silently keeps the last), and aliases that make a document too large.
"""

from __future__ import annotations

import yaml

from orchestrator.config.parsing.nodes import Items, Node, Scalar, Table
from orchestrator.config.parsing.problems import Place, Problem, shown

_MAX_DEPTH = 32
_MAX_NODES = 50_000


def read_tree(text: str, *, file: str) -> tuple[Node | None, list[Problem]]:
    """Return the document's tree, or None if it is empty or cannot be read, and its problems as YAML."""
    try:
        root = _Composer(text).get_single_node()
    except yaml.YAMLError as error:
        return None, [_syntax_problem(error, text, file)]
    if root is None:
        return None, []
    converter = _Converter(file)
    try:
        return converter.convert(root, depth=0), converter.problems
    except _TooLargeError as error:
        return None, [*converter.problems, error.problem]


class _Composer(yaml.SafeLoader):
    """Composes nodes without resolving types: a tag other than str, map and seq was written by the user."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - the stub declares it so; never changed
    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        """Compose one node. The depth is limited, because the parent class recurses for each level."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise yaml.composer.ComposerError(
                None, None, f"nested more than {_MAX_DEPTH} levels deep", self.get_mark()
            )
        try:
            return super().compose_node(parent, index)  # type: ignore[arg-type] # the stub forbids a node as index
        finally:
            self._depth -= 1


class _TooLargeError(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.text)
        self.problem = problem


class _Converter:
    """Converts PyYAML's nodes to ours. It limits their number, because it expands aliases."""

    def __init__(self, file: str) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._count = 0

    def convert(self, node: yaml.Node, *, depth: int) -> Node:
        place = self._place(node)
        self._count += 1
        if self._count > _MAX_NODES or depth > _MAX_DEPTH:
            reason = "aliases make this document too large; write the values out, or use `inherits`"
            raise _TooLargeError(Problem(place, reason))
        if node.tag.removeprefix("tag:yaml.org,2002:") not in ("str", "map", "seq"):
            self.problems.append(Problem(place, f"the tag {shown(node.tag)} is not supported; remove it"))
        if isinstance(node, yaml.ScalarNode):
            return Scalar(node.value, place, quoted=node.style is not None)
        if isinstance(node, yaml.SequenceNode):
            return Items(tuple(self.convert(item, depth=depth + 1) for item in node.value), place)
        return self._table(node, place, depth)

    def _table(self, node: yaml.Node, place: Place, depth: int) -> Table:
        entries: dict[str, Node] = {}
        key_places: dict[str, Place] = {}
        for key_node, value_node in node.value:
            value = self.convert(value_node, depth=depth + 1)
            key, key_place = key_node.value, self._place(key_node)
            if not isinstance(key, str):
                self.problems.append(Problem(key_place, "a key must be a single word"))
            elif key == "<<":
                self.problems.append(
                    Problem(key_place, "merge keys `<<` are not supported; use `inherits` in a profile")
                )
            elif key in entries:
                first = key_places[key]
                self.problems.append(
                    Problem(key_place, f"the key {shown(key)} was already given in line {first.line}; remove one")
                )
            else:
                entries[key], key_places[key] = value, key_place
        return Table(entries, key_places, place)

    def _place(self, node: yaml.Node) -> Place:
        return Place(self._file, node.start_mark.line + 1, node.start_mark.column + 1)


def _syntax_problem(error: yaml.YAMLError, text: str, file: str) -> Problem:
    if isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position]
        line = before.count("\n") + 1
        place = Place(file, line, error.position - (before.rfind("\n") + 1) + 1)
        return Problem(place, f"the character U+{ord(text[error.position]):04X} is not allowed in YAML")
    if not isinstance(error, yaml.MarkedYAMLError):
        return Problem(Place(file, 1, 1), f"this is not YAML: {error}")
    mark = error.problem_mark or error.context_mark
    place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file, 1, 1)
    begun = f" (from line {error.context_mark.line + 1})" if error.context_mark and error.problem_mark else ""
    reason = ", ".join(part for part in (error.context and error.context + begun, error.problem) if part)
    hint = " (tabs cannot indent; use spaces)" if "'\\t'" in reason else ""
    return Problem(place, f"this is not YAML: {reason}{hint}")
