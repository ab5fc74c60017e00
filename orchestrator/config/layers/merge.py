"""Merge layers of settings: one value for each dotted setting, with its origin.

The order of precedence, strongest first: command line, ORCH_* environment, file, `inherits`, built-in default.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.config.layers.defaults import BASE_PROFILE
from orchestrator.config.parsing.nodes import Node, Table
from orchestrator.config.parsing.problems import Problem, shown, suggestion
from orchestrator.config.schema.parts import Part
from orchestrator.config.settings import Layer, Setting, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from orchestrator.config.layers.sources import Source


def settings_of(source: Source) -> Settings:
    """Return the settings that the source itself gives, by their dotted names."""
    given = _leaves(source.document, source.document.table, "")
    return {name: Setting(value, source.layer, node.place) for name, value, node in given if name != "version"}


def _leaves(value: object, node: Node, path: str) -> Iterator[tuple[str, object, Node]]:
    """Yield (dotted name, value, node) of each setting: a key of a section, or an entry of a mapping in one."""
    if isinstance(value, Part) and value.section:
        entries: Mapping[str, object] = value.given
    elif isinstance(value, dict):
        entries = value
    else:
        yield path, value, node
        return
    assert isinstance(node, Table)  # noqa: S101 - sections and mappings were read from tables; for the type checker
    for key, item in entries.items():
        yield from _leaves(item, node.entries[key], f"{path}.{key}" if path else key)


def merge(sources: Sequence[Source]) -> tuple[Settings, list[Problem]]:
    """Return the merged settings with `inherits` applied, and the problems of `inherits`.

    `sources` are in merge order, the built-in one first.
    """
    given = [settings_of(source) for source in sources]
    merged: Settings = {}
    for settings in given:
        merged.update(settings)
    own: Settings = {}
    for settings in given[1:]:
        own.update(settings)
    names = dict.fromkeys(name for source in sources for name in source.document.profiles)
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
    """Applies `inherits`: resolves the chain of each profile once."""

    def __init__(self, *, names: list[str], own: dict[str, Settings], built_in: dict[str, Settings]) -> None:
        self._own = own
        self._built_in = built_in
        self._done: dict[str, Settings] = {}
        self.names = names
        self.problems: list[Problem] = []

    def resolve(self, profile: str, below: tuple[str, ...]) -> Settings:
        """Return all settings of `profile`. `below` are the profiles that inherit from it, the nearest last."""
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
