"""Layers of settings -> one value for each dotted setting, with where it came from.

Strongest first: command line, ORCH_* environment, file, `inherits`, built-in default.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import BaseModel

from orchestrator.config.layers.defaults import BASE_PROFILE, as_tree
from orchestrator.config.parsing.problems import Place, Problem, shown, suggestion
from orchestrator.config.parsing.yaml_tree import Node, Table
from orchestrator.config.settings import Layer, Setting, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from orchestrator.config.schema.validate import ValidLayer

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
"""Variable -> dotted setting. Other ORCH_* variables are no settings (a test inside orch has some)."""
_FLAG_WORDS = {"1": "true", "yes": "true", "on": "true", "0": "false", "no": "false", "off": "false"}


def environment_tree(env: Mapping[str, str]) -> Table:
    """The tree of the settings that the environment gives; an empty variable counts as unset."""
    parts: dict[str, Node] = {}
    for variable, setting in ENVIRONMENT.items():
        word = env.get(variable, "").strip()
        if word:
            word = _FLAG_WORDS.get(word.lower(), word) if setting == "run.strict_limits" else word
            parts[setting] = as_tree(word, Place(variable))
    return _nested(parts, Place("environment"))


def overrides_tree(overrides: Mapping[str, str]) -> Table:
    """The tree of dotted settings from the command line."""
    place = Place("command line")
    return _nested({setting: as_tree(word, place) for setting, word in overrides.items()}, place)


def _nested(parts: Mapping[str, Node], place: Place) -> Table:
    """`{"run.jobs": node}` -> the table run with its key jobs."""
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


def settings_of(layer: ValidLayer) -> Settings:
    """Dotted setting -> value, for what this layer gives itself."""
    return {
        ".".join(path): Setting(value, layer.layer, layer.place(*path))
        for path, value in _leaves(layer.document, ())
        if path != ("version",)
    }


def _leaves(value: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], object]]:
    """What is merged by itself: keys of sections and entries of mappings in them, no deeper."""
    if path and not getattr(value, "section", False) and not isinstance(value, dict):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    else:
        yield from _leaves({key: getattr(value, key) for key in _given_keys(value)}, path)


def _given_keys(part: object) -> list[str]:
    """Keys that the layer gives, in the order of the model: a set's order changes from run to run."""
    assert isinstance(part, BaseModel)  # noqa: S101 - only models have `section`; tells the type checker
    return [key for key in type(part).model_fields if key in part.model_fields_set]


def merge(layers: Sequence[ValidLayer]) -> tuple[Settings, list[Problem]]:
    """Merge layers, the weakest (built-in) first; `inherits` resolved. Problems: those of `inherits`."""
    given = [settings_of(layer) for layer in layers]
    merged: Settings = {}
    for settings in given:
        merged.update(settings)
    own: Settings = {}
    for settings in given[1:]:
        own.update(settings)
    names = dict.fromkeys(name for layer in layers for name in layer.document.profiles)
    resolver = _Inheritance(names=list(names), own=_by_profile(own), built_in=_by_profile(given[0]))
    result = {key: setting for key, setting in merged.items() if not key.startswith("profiles.")}
    for profile in resolver.names:
        for key, setting in resolver.resolve(profile, ()).items():
            result[f"profiles.{profile}.{key}"] = setting
    return result, resolver.problems


def _by_profile(settings: Settings) -> dict[str, Settings]:
    profiles: dict[str, Settings] = {}
    for key, setting in settings.items():
        section, _, rest = key.partition(".")
        if section == "profiles":
            name, _, field = rest.partition(".")
            profiles.setdefault(name, {})[field] = setting
    return profiles


class _Inheritance:
    """Resolves the chain of each profile once."""

    def __init__(self, *, names: list[str], own: dict[str, Settings], built_in: dict[str, Settings]) -> None:
        self._own = own
        self._built_in = built_in
        self._done: dict[str, Settings] = {}
        self.names = names
        self.problems: list[Problem] = []

    def resolve(self, profile: str, below: tuple[str, ...]) -> Settings:
        """All settings of `profile`; `below` are the profiles that inherit from it, nearest last."""
        if profile not in self._done:
            own = self._own.get(profile, {})
            parent = own.get("inherits")
            if parent is None:
                base = self._default(profile)
            else:
                base = self._inherited(profile, parent, (*below, profile))
            self._done[profile] = {**base, **own}
        return self._done[profile]

    def _default(self, profile: str) -> Settings:
        if profile in self._built_in:
            return self._built_in[profile]
        return {key: s for key, s in self._built_in[BASE_PROFILE].items() if key != "description"}

    def _inherited(self, profile: str, setting: Setting, chain: tuple[str, ...]) -> Settings:
        parent = str(setting.value)
        if parent in chain:
            cycle = " -> ".join([*chain[chain.index(parent) :], parent])
            text = f"profiles.{profile}.inherits: a circle: {cycle}; remove one `inherits` of it"
            self.problems.append(Problem(setting.place, text))
        elif parent not in self.names:
            text = f"profiles.{profile}.inherits: there is no profile {shown(parent)}"
            self.problems.append(Problem(setting.place, text + suggestion(parent, self.names)))
        else:
            settings = self.resolve(parent, chain)
            inherited = {key: s for key, s in settings.items() if key not in ("description", "inherits")}
            return {key: replace(s, layer=Layer.INHERITS, owner=s.owner or parent) for key, s in inherited.items()}
        return self._default(profile)
