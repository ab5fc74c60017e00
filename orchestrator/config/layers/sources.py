"""The sources of settings, each read as one layer: built-in defaults, file, environment, command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.config.layers.defaults import DEFAULTS
from orchestrator.config.parsing.nodes import Node, Table, as_tree
from orchestrator.config.parsing.problems import Place, Problem
from orchestrator.config.schema.document import Document
from orchestrator.config.schema.parts import PartOf
from orchestrator.config.settings import Layer

if TYPE_CHECKING:
    from collections.abc import Mapping

ENVIRONMENT: Mapping[str, str] = {
    "ORCH_DEFAULT_PROFILE": "default_profile",
    "ORCH_JOBS": "run.jobs",
    "ORCH_RETRIES": "run.retries",
    "ORCH_FLAKY_RESULT": "run.flaky_result",
    "ORCH_MAX_FAIL": "run.max_fail",
    "ORCH_TIMEOUT": "run.timeout",
    "ORCH_VIOLATIONS": "run.violations",
    "ORCH_STRICT_LIMITS": "run.strict_limits",
    "ORCH_NO_TESTS": "run.no_tests",
    "ORCH_SUCCESS_OUTPUT": "run.success_output",
    "ORCH_FAILURE_OUTPUT": "run.failure_output",
    "ORCH_SECCOMP": "seccomp",
    "ORCH_STATE_DIR": "state_dir",
    "ORCH_DB": "database",
}
"""The dotted setting that each variable sets. Other ORCH_* variables set nothing: tests inside orch have some."""
_FLAG_WORDS = {"1": "true", "yes": "true", "on": "true", "0": "false", "no": "false", "off": "false"}


@dataclass(frozen=True, slots=True)
class Source:
    """One layer of settings, read and validated by itself."""

    layer: Layer
    document: Document
    damaged: bool
    """True if something invalid was left out, so that a setting which is missing here may have been given."""


def read_sources(
    text: str | None, *, file_name: str, env: Mapping[str, str], overrides: Mapping[str, str]
) -> tuple[list[Source], list[Problem]]:
    """Return all sources, the weakest (built-in) first, and all problems inside them.

    `text` is the file's text or None; messages call the file `file_name`.
    """
    trees = [(Layer.DEFAULT, as_tree(DEFAULTS, Place(Layer.DEFAULT.value)))]
    problems: list[Problem] = []
    if text is not None:
        from orchestrator.config.parsing.yaml_tree import read_tree  # imports PyYAML

        tree, problems = read_tree(text, file=file_name)
        trees.append((Layer.FILE, tree or Table({}, {}, Place(file_name, 1, 1))))
    trees.append((Layer.ENVIRONMENT, _environment_tree(env)))
    trees.append((Layer.COMMAND_LINE, _overrides_tree(overrides)))
    sources = []
    for layer, tree in trees:
        source, found = _read(layer, tree)
        sources.append(source)
        problems += found
    return sources, problems


def _read(layer: Layer, tree: Node) -> tuple[Source, list[Problem]]:
    problems: list[Problem] = []
    if not isinstance(tree, Table):
        text = "expected keys with values, such as `profiles:`; `orch init` writes some"
        problems, tree = [Problem(tree.place, text)], Table({}, {}, tree.place)
    document = PartOf(Document).read(tree, "", problems)
    return Source(layer, document, damaged=bool(problems)), problems


def _environment_tree(env: Mapping[str, str]) -> Table:
    """Return the tree of the settings that the environment gives; an empty variable counts as unset."""
    parts: dict[str, Node] = {}
    for variable, setting in ENVIRONMENT.items():
        word = env.get(variable, "").strip()
        if word:
            word = _FLAG_WORDS.get(word.lower(), word) if setting == "run.strict_limits" else word
            parts[setting] = as_tree(word, Place(variable))
    return _nested(parts, Place("environment"))


def _overrides_tree(overrides: Mapping[str, str]) -> Table:
    """Return the tree of dotted settings from the command line."""
    place = Place("command line")
    return _nested({setting: as_tree(word, place) for setting, word in overrides.items()}, place)


def _nested(parts: Mapping[str, Node], place: Place) -> Table:
    """Return `{"run.jobs": node}` as the table `run` with the key `jobs`."""
    entries: dict[str, Node] = {}
    grouped: dict[str, dict[str, Node]] = {}
    for setting, node in parts.items():
        first, dot, rest = setting.partition(".")
        if dot:
            grouped.setdefault(first, {})[rest] = node
        else:
            entries[first] = node
    entries.update({first: _nested(inner, place) for first, inner in grouped.items()})
    return Table(entries, {key: node.place for key, node in entries.items()}, place)
