"""Finds profiles.yaml, reads all layers and gives one Config or one ConfigError with all problems."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from orchestrator.config import build, layers
from orchestrator.config.check import check
from orchestrator.config.defaults import BUILT_IN, DEFAULTS, as_tree
from orchestrator.config.positions import MAX_FILE_BYTES, Table, read_tree
from orchestrator.config.problems import Place, Problem, raise_if_any
from orchestrator.config.settings import Layer
from orchestrator.config.validate import ValidLayer, validate
from orchestrator.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.config.settings import Config

FILE_NAME = "profiles.yaml"
_NOTHING: Mapping[str, str] = MappingProxyType({})


def load_config(
    *, path: Path | None, start: Path, env: Mapping[str, str], overrides: Mapping[str, str] = _NOTHING
) -> Config:
    """The configuration that holds in the folder `start`.

    `path` (or ORCH_CONFIG) names the file; else profiles.yaml is looked for from `start` upwards. `overrides`
    are dotted settings from the command line with the text the user gave, such as `{"run.jobs": "4"}`.
    Raises ConfigError: one line `file:line:column: message` for each problem.
    """
    start = start.resolve()
    if path is None and env.get("ORCH_CONFIG"):
        path = Path(env["ORCH_CONFIG"])
    path = find_file(start) if path is None else start / path
    root = find_root(start) if path is None else path.parent.resolve()
    file_name = None if path is None else _shown_name(path, start)
    trees: list[tuple[Table, Layer]] = []
    problems: list[Problem] = []
    if path is not None and file_name is not None:
        tree, problems = _read_file(path, file_name)
        trees.append((tree, Layer.FILE))
    trees.append((layers.environment_tree(env), Layer.ENVIRONMENT))
    trees.append((layers.overrides_tree(overrides), Layer.COMMAND_LINE))

    valid = [_built_in()]
    for tree, layer in trees:
        document, found = validate(tree, layer)
        valid.append(document)
        problems += found
    settings, found = layers.merge(valid)
    raise_if_any([*problems, *found, *check(valid, settings, root)])
    return build.build(
        settings,
        root=root,
        path=None if path is None else root / path.name,
        rule_places=_rule_places(valid),
        shorten={file_name: path.name} if path is not None and file_name is not None else {},
    )


@cache
def _built_in() -> ValidLayer:
    tree = as_tree(DEFAULTS, BUILT_IN)
    assert isinstance(tree, Table)  # noqa: S101 - as_tree gives a table for a dict; tells the type checker
    layer, problems = validate(tree, Layer.DEFAULT)
    assert not problems  # noqa: S101 - a defect of orch
    return layer


def find_file(start: Path) -> Path | None:
    """The nearest profiles.yaml from `start` upwards; a repository's root ends the search."""
    for folder in (start, *start.parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
        if (folder / ".git").exists():
            return None
    return None


def find_root(start: Path) -> Path:
    """The nearest folder with .git from `start` upwards, else `start`."""
    return next((folder for folder in (start, *start.parents) if (folder / ".git").exists()), start)


def _shown_name(path: Path, start: Path) -> str:
    """The file's name as seen from the user's folder, if that is shorter than the whole path."""
    relative = os.path.relpath(path, start)
    return relative if len(relative) < len(str(path)) else str(path)


def _read_file(path: Path, name: str) -> tuple[Table, list[Problem]]:
    text = _text(path, name)
    tree, problems = read_tree(text, file=name)
    empty = Table({}, {}, Place(name, 1, 1))
    if tree is None:
        return empty, problems
    if not isinstance(tree, Table):
        problems.append(
            Problem(tree.place, "expected keys with values, such as `profiles:`; `orch init` writes some")
        )
        return empty, problems
    return tree, problems


def _text(path: Path, name: str) -> str:
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{name}:1:1: this is not a regular file")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        message = f"{name}:1:1: cannot be read: {error.strerror}"
        raise ConfigError(message, remedy="`orch init` writes a profiles.yaml; --config names another") from error
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{name}:1:1: larger than {MAX_FILE_BYTES >> 20} MiB; this is no profiles.yaml")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig", "replace")
        place = Place(name, before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
        byte = data[error.start]
        raise ConfigError(
            f"{place}: the byte 0x{byte:02x} is not UTF-8", remedy="save the file as UTF-8"
        ) from error


def _rule_places(valid: list[ValidLayer]) -> tuple[Place, ...]:
    """Place of each rule of the layer whose rules hold (the last that has any list of rules)."""
    for layer in reversed(valid):
        if "rules" in layer.document.model_fields_set:
            return tuple(layer.place("rules", index) for index in range(len(layer.document.rules)))
    return ()
