"""All layers of settings, read, validated, merged and checked, or one error with all that is wrong with them."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import TYPE_CHECKING

from pydantic import BaseModel

from orchestrator.config.layers import merge as layers
from orchestrator.config.layers.checks import check
from orchestrator.config.layers.defaults import BUILT_IN, DEFAULTS, as_tree
from orchestrator.config.parsing.problems import Place, Problem, raise_if_any
from orchestrator.config.parsing.yaml_tree import Table, read_tree
from orchestrator.config.schema.validate import ValidLayer, validate
from orchestrator.config.settings import Layer, Merged

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from orchestrator.config.settings import Settings

_NOT_IN_DIGEST = ("database", "state_dir", "retention.", "presets.")


def merge(
    text: str | None, *, file_name: str, env: Mapping[str, str], overrides: Mapping[str, str], root: Path
) -> Merged:
    """Return all layers merged. `text` is the file's text or None; messages call the file `file_name`.

    Raises ConfigError with all problems.
    """
    trees: list[tuple[Table, Layer]] = []
    problems: list[Problem] = []
    if text is not None:
        tree, problems = _read_file(text, file_name)
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
    return Merged(settings, _rule_places(valid), _digest(settings))


@cache
def _built_in() -> ValidLayer:
    tree = as_tree(DEFAULTS, BUILT_IN)
    assert isinstance(tree, Table)  # noqa: S101 - as_tree gives a table for a dict; tells the type checker
    layer, problems = validate(tree, Layer.DEFAULT)
    assert not problems  # noqa: S101 - a defect of orch
    return layer


def _read_file(text: str, name: str) -> tuple[Table, list[Problem]]:
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


def _rule_places(valid: list[ValidLayer]) -> tuple[Place, ...]:
    """Place of each rule of the layer whose rules hold (the last that has any list of rules)."""
    for layer in reversed(valid):
        if "rules" in layer.document.model_fields_set:
            return tuple(layer.place("rules", index) for index in range(len(layer.document.rules)))
    return ()


def _digest(settings: Settings) -> str:
    kept = {key: s.value for key, s in settings.items() if not key.startswith(_NOT_IN_DIGEST)}
    text = json.dumps(kept, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(exclude_unset=True)
    raise TypeError(f"no plain form of {type(value)}")
