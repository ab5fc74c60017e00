"""Checks that involve several settings: names that must exist, limits that must fit, paths inside the project."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from orchestrator.config.parsing.nodes import Items, Scalar, Table
from orchestrator.config.parsing.problems import Place, Problem, shown, suggestion
from orchestrator.config.schema.readers import is_name
from orchestrator.config.settings import Layer
from orchestrator.config.units import format_size
from orchestrator.model.suites import Runner

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from orchestrator.config.layers.sources import Source
    from orchestrator.config.parsing.nodes import Node
    from orchestrator.config.schema.document import ImagePart, SuitePart
    from orchestrator.config.settings import Settings

_RULE_CONDITIONS = ("match", "marker", "suite")


def check(sources: Sequence[Source], settings: Settings, root: Path) -> list[Problem]:
    """Return all conflicts between settings. `sources` are in merge order, the built-in one first."""
    names = _Names(sources)
    problems = list(_profiles(settings, names, limits=not any(source.damaged for source in sources)))
    problems += _reference(settings, "default_profile", "profile", names.profiles)
    for source in sources:
        problems += _rules(source, names)
        problems += _suites(source, names, root)
        problems += _images(source, names)
        if source.layer in (Layer.ENVIRONMENT, Layer.COMMAND_LINE):
            problems += _unknown_overrides(source, names)
    problems += _image_circles(settings)
    problems += _seccomp(settings, root)
    return problems


class _Names:
    """The names that references may use. They are taken from the trees, so that one wrong key does not hide the
    profile, image or suite that it belongs to.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        lasting = [x.document.table.entries for x in sources if x.layer in (Layer.DEFAULT, Layer.FILE)]
        self.profiles = {name for entries in lasting for name in _keys(entries.get("profiles"))}
        self.images = {name for entries in lasting for name in _keys(entries.get("images"))}
        self.suites: set[str] = set()
        for entries in lasting:  # a file's suites replace the built-in ones
            suites = entries.get("suites")
            if isinstance(suites, Items):
                self.suites = set(_suite_names(suites))


def _keys(node: Node | None) -> Iterable[str]:
    return filter(is_name, node.entries) if isinstance(node, Table) else ()


def _suite_names(suites: Items) -> Iterator[str]:
    for suite in suites.items:
        name = suite.entries.get("name") if isinstance(suite, Table) else None
        if isinstance(name, Scalar) and name.kind == "text" and is_name(name.text):
            yield name.text


def _unknown(place: Place, setting: str, kind: str, word: str, known: Iterable[str]) -> Problem:
    return Problem(place, f"{setting}: there is no {kind} {shown(word)}{suggestion(word, known)}")


def _reference(settings: Settings, key: str, kind: str, known: Iterable[str]) -> Iterator[Problem]:
    setting = settings[key]
    if str(setting.value) not in known:
        yield _unknown(setting.place, key, kind, str(setting.value), known)


def _profiles(settings: Settings, names: _Names, *, limits: bool) -> Iterator[Problem]:
    for key, setting in settings.items():
        section, _, rest = key.partition(".")
        name, _, field = rest.partition(".")
        if section != "profiles":
            continue
        if field == "image" and setting.layer is not Layer.INHERITS:
            yield from _reference(settings, key, "image", names.images)
        if field == "tmpfs" and limits:
            yield from _tmpfs(settings, name)


def _tmpfs(settings: Settings, name: str) -> Iterator[Problem]:
    """Check that /tmp is not larger than memory. It could never be filled, because its pages count as memory."""
    tmpfs, memory = settings[f"profiles.{name}.tmpfs"], settings[f"profiles.{name}.memory"]
    assert isinstance(tmpfs.value, int)  # noqa: S101 - both were parsed as sizes; tells the type checker
    assert isinstance(memory.value, int)  # noqa: S101 - as above
    if tmpfs.value <= memory.value:
        return
    sizes = f"tmpfs ({format_size(tmpfs.value)}) is above memory ({format_size(memory.value)})"
    remedy = "files there count as memory: raise memory or lower tmpfs"
    place = tmpfs.place if tmpfs.place.line else memory.place
    yield Problem(place, f"profiles.{name}: {sizes}; {remedy}")


def _rules(source: Source, names: _Names) -> Iterator[Problem]:
    for rule in source.document.rules:
        where, given = rule.path, set(rule.given)
        if rule.profile is not None and rule.profile not in names.profiles:
            place = rule.place("profile")
            yield _unknown(place, f"{where}.profile", "profile", rule.profile, names.profiles)
        if rule.suite is not None and rule.suite not in names.suites:
            place = rule.place("suite")
            yield _unknown(place, f"{where}.suite", "suite", rule.suite, names.suites)
        if source.damaged:
            continue
        if not given.intersection(_RULE_CONDITIONS):
            text = 'no condition is given; add match, marker or suite (`match: "**"` for all tests)'
            yield Problem(rule.table.place, f"{where}: {text}")
        elif given.issubset(_RULE_CONDITIONS):
            text = "the rule changes nothing; add profile, retries, timeout, memory, cpus, exclusive or group"
            yield Problem(rule.table.place, f"{where}: {text}")


def _suites(source: Source, names: _Names, root: Path) -> Iterator[Problem]:
    seen: Counter[str] = Counter()
    for suite in source.document.suites:
        where = suite.path
        seen[suite.name] += 1
        if seen[suite.name] > 1:
            place = suite.place("name")
            yield Problem(place, f"{where}.name: there is another suite {shown(suite.name)}; rename one")
        if suite.profile is not None and suite.profile not in names.profiles:
            place = suite.place("profile")
            yield _unknown(place, f"{where}.profile", "profile", suite.profile, names.profiles)
        if not (root / suite.working_dir).resolve().is_relative_to(root.resolve()):
            place = suite.place("working_dir")
            text = f"{shown(suite.working_dir)} is outside the project; expected a folder inside it"
            yield Problem(place, f"{where}.working_dir: {text}")
        if not source.damaged:
            yield from _suite_command(suite)


def _suite_command(suite: SuitePart) -> Iterator[Problem]:
    if suite.runner != Runner.COMMAND:
        return
    place = suite.place("command")
    if not suite.command:
        yield Problem(place, f'{suite.path}: runner command needs a command, such as ["make", "{{test}}"]')
    elif not any("{test}" in word or "{name}" in word for word in suite.command):
        yield Problem(place, f"{suite.path}.command: nothing names the test; add `{{test}}`")


def _images(source: Source, names: _Names) -> Iterator[Problem]:
    for name, image in source.document.images.items():
        if image.base is not None and image.base not in names.images:
            place = image.place("base")
            yield _unknown(place, f"images.{name}.base", "image", image.base, names.images)
        if not source.damaged:
            yield from _image_source(image, source.document.key_place("images", name))


def _image_source(image: ImagePart, place: Place) -> Iterator[Problem]:
    given = set(image.given)
    if not given.intersection(("dockerfile", "reference")):
        yield Problem(place, f"{image.path}: no source is given; add dockerfile or reference")
    elif "reference" in given and len(given) > 1:
        extra = ", ".join(sorted(given - {"reference"}))
        yield Problem(place, f"{image.path}: a reference is not built; remove it, or {extra}")


def _image_circles(settings: Settings) -> Iterator[Problem]:
    bases = {
        key.removeprefix("images."): getattr(setting.value, "base", None)
        for key, setting in settings.items()
        if key.startswith("images.")
    }
    reported: set[str] = set()
    for start in bases:
        chain = [start]
        while (base := bases.get(chain[-1])) is not None and base not in chain:
            chain.append(base)
        if base is not None and base == start and not reported.intersection(chain):
            reported.update(chain)
            circle = " -> ".join([*chain, start])
            yield Problem(settings[f"images.{start}"].place, f"images.{start}.base: a circle: {circle}")


def _unknown_overrides(source: Source, names: _Names) -> Iterator[Problem]:
    for name, profile in source.document.profiles.items():
        if name not in names.profiles:
            yield _unknown(profile.table.place, f"profiles.{name}", "profile", name, names.profiles)


def _seccomp(settings: Settings, root: Path) -> Iterator[Problem]:
    """Check that the seccomp profile can be used. Engines use a weaker one instead, or fail late."""
    setting = settings.get("seccomp")
    if setting is None:
        return
    path = root / str(setting.value)
    try:
        profile = json.loads(path.read_bytes())
        reason = None if isinstance(profile, dict) and "defaultAction" in profile else "it has no defaultAction"
        if reason is None and profile["defaultAction"] == "SCMP_ACT_ALLOW" and not profile.get("syscalls"):
            reason = "it allows everything"
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError as error:
        reason = f"it is not JSON ({error})"
    if reason is not None:
        text = f"seccomp: {shown(str(setting.value))} cannot be used: {reason}"
        yield Problem(setting.place, text + "; without the key, the shipped profile is used")
