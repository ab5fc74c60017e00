r"""Parse the filter language of `-E` into a predicate over tests.

    expression = term { ("or" | "|") term }         term = factor { ("and" | "&") factor }
    factor = ("not" | "!") factor | "(" expression ")" | all() | none() | NAME(ARGUMENT) | WORD

NAME is test, suite, profile, marker or path. ARGUMENT is `=exact`, `/regex/`, `#glob`, `~substring`, or plain
text: a substring for test, a path glob for path, a glob for the others. Parentheses in it must be balanced
or preceded by `\`. A bare WORD means test(WORD). The syntax is that of cargo-nextest's filtersets.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import UsageError
from orchestrator.globs import compile_glob

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.model.tests import Test

    Predicate = Callable[[Test, str], bool]
    Texts = Callable[[Test, str], tuple[str, ...]]

_MAX_DEPTH = 100
_WORD = re.compile(r"[^\s()!&|]+")
_SPACE = re.compile(r"\s*")

_SUBJECTS: dict[str, Texts] = {
    "test": lambda test, _profile: (str(test.id),),
    "suite": lambda test, _profile: (test.suite,),
    "profile": lambda _test, profile: (profile,),
    "marker": lambda test, _profile: tuple(test.markers),
    "path": lambda test, _profile: (test.id.path,),
}


@dataclass(frozen=True, slots=True)
class Filter:
    """A parsed filter."""

    text: str
    predicate: Predicate

    def matches(self, test: Test, profile_name: str) -> bool:
        """Return whether the filter selects the test under its profile."""
        return self.predicate(test, profile_name)


def parse_filter(text: str) -> Filter:
    """Parse a filter. Raises UsageError with the position of the error."""
    parser = _Parser(text)
    predicate = parser.expression(0)
    if not parser.at_end():
        raise parser.error("expected `and`, `or` or the end")
    return Filter(text=text, predicate=predicate)


class _Parser:
    """A recursive-descent parser; `at` is the index of the next character."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def error(self, message: str, at: int | None = None) -> UsageError:
        column = (self.at if at is None else at) + 1
        return UsageError(
            f"filter, column {column}: {message}\n  {self.text}\n  {' ' * (column - 1)}^",
            remedy="for example: -E 'marker(slow) and not path(test/legacy/**)'",
        )

    def at_end(self) -> bool:
        self._skip_space()
        return self.at >= len(self.text)

    def expression(self, depth: int) -> Predicate:
        """Parse terms joined by `or`."""
        if depth > _MAX_DEPTH:
            raise self.error(f"nested more than {_MAX_DEPTH} deep")
        terms = [self._term(depth)]
        while self._operator("or", "|"):
            terms.append(self._term(depth))
        return terms[0] if len(terms) == 1 else lambda test, profile: any(term(test, profile) for term in terms)

    def _term(self, depth: int) -> Predicate:
        factors = [self._factor(depth)]
        while self._operator("and", "&"):
            factors.append(self._factor(depth))
        if len(factors) == 1:
            return factors[0]
        return lambda test, profile: all(factor(test, profile) for factor in factors)

    def _factor(self, depth: int) -> Predicate:
        negated = False
        while self._operator("not", "!"):
            negated = not negated
        inner = self._primary(depth)
        return (lambda test, profile: not inner(test, profile)) if negated else inner

    def _primary(self, depth: int) -> Predicate:
        if self.at_end():
            raise self.error("expected a test, found the end")
        if self.text[self.at] == "(":
            self.at += 1
            inner = self.expression(depth + 1)
            self._close()
            return inner
        start = self.at
        found = _WORD.match(self.text, self.at)
        if found is None or found.group() in {"and", "or", "not"}:
            raise self.error(f"expected a test, found {found.group() if found else self.text[self.at]!r}")
        self.at = found.end()
        if self.text[self.at : self.at + 1] == "(":
            self.at += 1
            return self._call(found.group(), start)
        word = found.group()
        return _predicate(_SUBJECTS["test"], lambda value: word in value)

    def _call(self, name: str, start: int) -> Predicate:
        if name in {"all", "none"}:
            self._close()
            return lambda _test, _profile: name == "all"
        if name not in _SUBJECTS:
            known = ", ".join(f"{subject}()" for subject in (*_SUBJECTS, "all", "none"))
            raise self.error(f"unknown {name}(): known are {known}", start)
        return _predicate(_SUBJECTS[name], self._matcher(name))

    def _matcher(self, name: str) -> Callable[[str], bool]:
        self._skip_space()
        start = self.at
        if self.text.startswith("/", self.at):
            return self._regex()
        argument = self._argument()
        kind, value = (argument[0], argument[1:].strip()) if argument[:1] in {"=", "#", "~"} else ("", argument)
        if not value and kind != "=":
            raise self.error(f"{name}() needs an argument", start)
        if kind == "=":
            return lambda text: text == value
        if kind == "~" or (not kind and name == "test"):
            return lambda text: value in text
        if name == "path":
            path_glob = compile_glob(value)
            return lambda text: path_glob.fullmatch(text) is not None
        try:
            glob = re.compile(fnmatch.translate(value))
        except re.error as error:
            raise self.error(f"glob: {error.msg}", start) from None
        return lambda text: glob.match(text) is not None

    def _regex(self) -> Callable[[str], bool]:
        start = self.at
        found = re.compile(r"/((?:[^/\\]|\\.)*)/", re.DOTALL).match(self.text, self.at)
        if found is None:
            raise self.error("the regular expression has no closing `/`")
        try:
            pattern = re.compile(found.group(1).replace(r"\/", "/"))
        except (re.error, OverflowError, RecursionError) as error:
            raise self.error(f"regular expression: {error}", start + 1) from None
        self.at = found.end()
        self._close()
        return lambda text: pattern.search(text) is not None

    def _argument(self) -> str:
        """Consume and return the text up to the parenthesis that closes the call."""
        start, depth = self.at, 0
        kept: list[str] = []
        while self.at < len(self.text):
            character = self.text[self.at]
            self.at += 1
            if character == "\\" and self.text[self.at : self.at + 1] in {"(", ")", "\\"}:
                character = self.text[self.at]
                self.at += 1
            elif character == ")" and depth == 0:
                return "".join(kept).strip()
            elif character in "()":
                depth += 1 if character == "(" else -1
            kept.append(character)
        raise self.error("the `(` before it is never closed", start)

    def _close(self) -> None:
        if self.at_end() or self.text[self.at] != ")":
            raise self.error("expected `)`")
        self.at += 1

    def _operator(self, word: str, sign: str) -> bool:
        """Consume the operator if it is next, and return whether it was."""
        self._skip_space()
        if self.text.startswith(sign, self.at):
            self.at += 1
            return True
        found = _WORD.match(self.text, self.at)
        if found and found.group() == word:
            self.at = found.end()
            return True
        return False

    def _skip_space(self) -> None:
        found = _SPACE.match(self.text, self.at)
        assert found is not None  # noqa: S101 - \s* always matches
        self.at = found.end()


def _predicate(subject: Texts, matches: Callable[[str], bool]) -> Predicate:
    return lambda test, profile: any(matches(text) for text in subject(test, profile))
