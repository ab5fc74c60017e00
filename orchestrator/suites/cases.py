"""List the cases of a pytest file without importing it.

Cases that the text alone does not show (names made at run time, inherited methods, imported tests, names changed
in pytest's configuration) are never lost: a class with base classes is one case as a whole, and otherwise the file
stays one test. A parametrised function is one case with all its parameters.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterator
    from pathlib import Path

CONFIG_FILES = (
    "pytest.ini",
    ".pytest.ini",
    "pytest.toml",
    ".pytest.toml",
    "pyproject.toml",
    "tox.ini",
    "setup.cfg",
)
# Decorators of parameterized, ddt and similar libraries, which replace the written name by new ones.
_RENAMING = frozenset({"expand", "parameterized", "parameterized_class", "ddt", "data", "file_data", "named_data"})
_PLAIN_BASES = frozenset({"object", "TestCase", "IsolatedAsyncioTestCase"})


class CannotListError(Exception):
    """The file's cases cannot be determined from its text; the message gives the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedCase:
    """A case with the markers that apply to it: its own, those of its classes and those of the module."""

    name: str
    markers: frozenset[str]


def custom_names(folder: Path) -> str | None:
    """Return the name of the configuration file in `folder` that changes which names pytest collects, or None."""
    for name in CONFIG_FILES:
        try:
            text = (folder / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if re.search(r"^\s*python_(functions|classes)\s*=", text, re.MULTILINE):
            return name
    return None


def list_cases(content: bytes) -> tuple[ListedCase, ...]:
    """Return the cases in the order of the file. Raises CannotListError if the file must stay one test."""
    try:
        module = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise CannotListError(f"it cannot be parsed: {error}") from None
    _check_nothing_hidden(module)
    own = _assigned_markers(module.body)
    cases = {case.name: case for case in _cases(module.body, prefix="", inherited=own, unittest=False)}
    if not cases:
        raise CannotListError("no test function or class is written in it")
    return tuple(cases.values())


def may_contain(content: bytes, name: str, listed: Container[str]) -> bool:
    """Return whether a file whose cases can be listed may contain a case that is not among them.

    `name` is a case's name without parameters. The answer is True if the case is part of a listed class, if the
    last part of its name is defined or imported anywhere in the file, and if the module calls something at its top
    level, which may create tests.
    """
    *classes, last = name.split("::")
    if any("::".join(classes[: length + 1]) in listed for length in range(len(classes))):
        return True
    module = ast.parse(content)
    if any(isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) for node in module.body):
        return True
    return any(_defined_name(node) == last for node in ast.walk(module))


def _cases(
    body: list[ast.stmt], *, prefix: str, inherited: frozenset[str], unittest: bool
) -> Iterator[ListedCase]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
            decorators = _decorator_names(node)
            if "fixture" not in decorators:
                _refuse_renaming(node.name, decorators)
                yield ListedCase(name=prefix + node.name, markers=inherited | _own_markers(node))
        elif isinstance(node, ast.ClassDef) and not unittest:
            yield from _class_cases(node, prefix=prefix, inherited=inherited)


def _class_cases(node: ast.ClassDef, *, prefix: str, inherited: frozenset[str]) -> Iterator[ListedCase]:
    bases = [_last_name(base) for base in node.bases]
    unittest = any(base.endswith("TestCase") for base in bases)
    if not (unittest or node.name.startswith("Test")):
        if bases and any(_looks_like_test(item) for item in node.body):
            raise CannotListError(f"class {node.name} may be a test case through its bases")
        return
    _refuse_renaming(node.name, _decorator_names(node))
    markers = inherited | _own_markers(node) | _assigned_markers(node.body)
    name = prefix + node.name
    if any(base not in _PLAIN_BASES for base in bases) or node.keywords:
        yield ListedCase(name=name, markers=markers)  # methods may be inherited
        return
    _check_nothing_hidden(node)
    if not unittest and any(
        isinstance(item, ast.FunctionDef) and item.name in {"__init__", "__new__"} for item in node.body
    ):
        return  # pytest does not collect such a class
    yield from _cases(node.body, prefix=f"{name}::", inherited=markers, unittest=unittest)


def _check_nothing_hidden(scope: ast.Module | ast.ClassDef) -> None:
    """Raise CannotListError if a name that pytest would collect may come from anything but a plain definition."""
    for node in scope.body:
        if isinstance(node, ast.ImportFrom | ast.Import):
            names = [alias.asname or alias.name for alias in node.names]
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [item.id for target in targets for item in ast.walk(target) if isinstance(item, ast.Name)]
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.For | ast.While | ast.Match):
            names = [_defined_name(item) for item in ast.walk(node)]
        else:
            continue
        hidden = next((name for name in names if _is_test_name(name)), None)
        if hidden:
            raise CannotListError(f"line {node.lineno}: whether {hidden!r} is a test is known at run time only")


def _is_test_name(name: str) -> bool:
    return name in {"*", "__test__", "load_tests"} or name.startswith(("test", "Test"))


def _looks_like_test(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test")


def _defined_name(node: ast.AST) -> str:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return node.name
    if isinstance(node, ast.alias):
        return node.asname or node.name
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return node.id
    return ""


def _last_name(node: ast.expr) -> str:
    """Return the last name of an expression: `c` for `a.b.c`, `a.b.c(...)` or `a.b.c[...]`."""
    while isinstance(node, ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else "?"


def _decorator_names(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> set[str]:
    return {_last_name(decorator) for decorator in node.decorator_list}


def _refuse_renaming(name: str, decorators: set[str]) -> None:
    renaming = decorators & _RENAMING
    if renaming:
        raise CannotListError(f"@{min(renaming)} makes new names of {name!r}")


def _own_markers(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> frozenset[str]:
    return frozenset(marker for decorator in node.decorator_list for marker in _markers_in(decorator))


def _assigned_markers(body: list[ast.stmt]) -> frozenset[str]:
    """Return the markers that `pytestmark = ...` sets in a module or a class."""
    values = [
        node.value
        for node in body
        if isinstance(node, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == "pytestmark" for target in node.targets)
    ]
    return frozenset(marker for value in values for marker in _markers_in(value))


def _markers_in(expression: ast.expr) -> Iterator[str]:
    for node in ast.walk(expression):
        if isinstance(node, ast.Attribute) and _last_name(node.value) == "mark":
            yield node.attr
