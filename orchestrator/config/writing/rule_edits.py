"""Change rules in the text of a profiles.yaml and leave every other character as it is.

A profile's name is replaced at its place in the tree, and new rules are whole lines. What cannot be changed safely
is refused. Callers read the result again before they write it (docs/design/analysis/right-sizing.md).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.config.parsing.nodes import Items, Scalar, Table
from orchestrator.config.parsing.yaml_tree import read_tree
from orchestrator.errors import UsageError
from orchestrator.globs import escape_glob

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
"""The line ends of YAML, by which `Place` counts lines."""
_DASH = re.compile(r"( *)- +\Z")
_EMPTY_RULES = re.compile(r"rules:[ \t]*(\[[ \t]*\])?[ \t]*(#.*)?\Z")
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRule:
    """A rule for one test, by its exact name, with the retries, `exclusive` and `group` of its former rule."""

    match: str
    """The test's name; glob characters in it are escaped in `text`."""
    profile: str
    retries: int | None = None
    exclusive: bool = False
    group: str | None = None

    @property
    def text(self) -> str:
        """The rule as a YAML flow mapping on one line."""
        parts = [f"match: {_quoted(escape_glob(self.match))}", f"profile: {_word(self.profile)}"]
        if self.retries is not None:
            parts.append(f"retries: {self.retries}")
        if self.exclusive:
            parts.append("exclusive: true")
        if self.group is not None:
            parts.append(f"group: {_quoted(self.group)}")
        return f"{{{', '.join(parts)}}}"


def edited(
    text: str, *, file: str, profiles: Mapping[int, str], new: Sequence[NewRule], comment: str | None = None
) -> str:
    """`text` with other profiles in rules (by their index, from 0) and new rules before the first one, below a
    `comment`. UsageError: the file is written in a way that cannot be changed safely; the remedy names the rules.
    """
    root, problems = read_tree(text, file=file)
    if problems or not (root is None or isinstance(root, Table)):
        raise _refusal(f"{file} cannot be read", new)
    lines = _Lines(text)
    rules = root.entries.get("rules") if root is not None else None
    for index, name in profiles.items():
        _replace_profile(lines, rules, index, name, file)
    if new:
        added = [f"# {comment}"] if comment else []
        _insert(lines, root, rules, [*added, *(f"- {rule.text}" for rule in new)], new)
    return lines.text


class _Lines:
    """Lines of a text with their line ends, numbered from 1 like places."""

    def __init__(self, text: str) -> None:
        self._parts: list[str] = []
        self._ends: list[str] = []
        at = 0
        for found in _BREAK.finditer(text):
            self._parts.append(text[at : found.start()])
            self._ends.append(found.group())
            at = found.end()
        self._parts.append(text[at:])
        self._ends.append("")
        self._newline = self._ends[0] or "\n"

    @property
    def text(self) -> str:
        return "".join(part + end for part, end in zip(self._parts, self._ends, strict=True))

    @property
    def count(self) -> int:
        return len(self._parts)

    def __getitem__(self, number: int) -> str:
        return self._parts[number - 1]

    def __setitem__(self, number: int, line: str) -> None:
        self._parts[number - 1] = line

    def insert(self, before: int, added: Sequence[str]) -> None:
        """Insert lines before the line with the number `before`."""
        self._parts[before - 1 : before - 1] = added
        self._ends[before - 1 : before - 1] = [self._newline] * len(added)

    def append(self, added: Sequence[str]) -> None:
        """Add lines at the end of the text, after a line break if it lacks one."""
        if self._parts[-1]:
            self._ends[-1] = self._newline
            self._parts.append("")
            self._ends.append("")
        self.insert(len(self._parts), added)


def _replace_profile(lines: _Lines, rules: object, index: int, name: str, file: str) -> None:
    rule = rules.items[index] if isinstance(rules, Items) and index < len(rules.items) else None
    node = rule.entries.get("profile") if isinstance(rule, Table) else None
    if not isinstance(node, Scalar):
        raise UsageError(f"{file}: rule {index + 1} names no profile", remedy="change it by hand")
    line, start = lines[node.place.line], node.place.column - 1
    written = next((t for t in _spellings(node) if line.startswith(t, start)), None)
    if written is None:  # an alias, or escapes in quotes
        raise UsageError(f"{node.place}: cannot change how this profile is written", remedy="change it by hand")
    lines[node.place.line] = line[:start] + _word(name) + line[start + len(written) :]


def _spellings(node: Scalar) -> Sequence[str]:
    return [f'"{node.text}"', f"'{node.text}'"] if node.quoted else [node.text]


def _insert(
    lines: _Lines, root: Table | None, rules: object, added: Sequence[str], new: Sequence[NewRule]
) -> None:
    if root is None or "rules" not in root.entries:
        if root is not None and any(place.column != 1 for place in root.key_places.values()):
            raise _refusal(f"{root.place}: the file is not written in lines of `key: value`", new)
        lines.append(["", "rules:", *(f"  {line}" for line in added)])
        return
    key = root.key_places["rules"]
    if not isinstance(rules, Items) or not rules.items:
        if key.column != 1 or not _EMPTY_RULES.match(lines[key.line]):
            raise _refusal(f"{key}: `rules` is not a list of lines", new)
        lines[key.line] = re.sub(r"\[[ \t]*\]", "", lines[key.line], count=1).rstrip()
        lines.insert(key.line + 1, [f"  {line}" for line in added])
        return
    place = rules.items[0].place
    dash = _DASH.match(lines[place.line][: place.column - 1])
    if dash is None or place.line <= key.line:
        raise _refusal(f"{place}: `rules` is not a list of lines that begin with a dash", new)
    at = place.line
    # comments above the first rule stay with it
    while at - 1 > key.line and lines[at - 1].lstrip().startswith("#"):
        at -= 1
    lines.insert(at, [dash[1] + line for line in added])


def _refusal(message: str, new: Sequence[NewRule]) -> UsageError:
    shown = "\n".join(f"        - {rule.text}" for rule in new[:20])
    more = f"\n        and {len(new) - 20} more" if len(new) > 20 else ""
    return UsageError(message, remedy=f"write these rules by hand, before all others:\n{shown}{more}")


def _quoted(text: str) -> str:
    """Return a double-quoted YAML scalar. JSON's short escapes are valid in YAML; its surrogate pairs are not."""
    short = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in short)


def _word(text: str) -> str:
    return text if _PLAIN.match(text) and text.lower() not in ("true", "false", "null") else _quoted(text)
