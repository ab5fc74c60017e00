"""`orch profiles suggest` and `show`: find the smallest profile for each test's history."""

from __future__ import annotations

import difflib
import math
import os
import uuid
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.analysis.rightsizing import WINDOW, advice_order, suggest
from orchestrator.config.loader import load_config
from orchestrator.config.writing.rule_edits import NewRule, edited
from orchestrator.coordinator.console import note, say, show
from orchestrator.coordinator.database import database_for_report
from orchestrator.coordinator.session import load_with_database
from orchestrator.database.queries.observations import observed
from orchestrator.errors import ConfigError, ExitCode, OrchError, StateError, UsageError
from orchestrator.files import write_atomically
from orchestrator.model.rightsizing import Observations
from orchestrator.model.runs import HostInfo
from orchestrator.reports.json_encoding import to_json
from orchestrator.reports.tables.rightsizing import suggestions_table, suggestions_text
from orchestrator.reports.tables.table import Column, Figure, Table
from orchestrator.scheduling.assign import assign, clamp, matches
from orchestrator.suites.discover import discover
from orchestrator.text import plural, visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.config.settings import Config
    from orchestrator.model.profiles import Profile, Rule
    from orchestrator.model.rightsizing import Suggestion
    from orchestrator.model.tests import Assignment, Test, TestId

_ANY_HOST = HostInfo(id="", cpus=math.inf, memory_bytes=1 << 62, kernel="", python="", nofile=1 << 62)
"""A host without limits. Suggestions are written to a file that every machine reads, so that profiles are not
lowered to the size of this machine.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuggestOptions:
    """The options of `orch profiles suggest`."""

    config_path: Path | None
    database: str | None
    paths: tuple[str, ...]
    minimum_runs: int
    apply: bool
    output_format: str


def profiles_suggest(options: SuggestOptions) -> int:
    """Print a suggestion for each test; with `apply`, also print a diff of profiles.yaml and write the file."""
    config = load_with_database(options.config_path, options.database)
    everything = discover(config.suites, (), config.project_root, environ=os.environ, notice=note)
    chosen = discover(config.suites, options.paths, config.project_root, environ=os.environ, notice=_silent)
    plan = _assigned(config, everything)
    with database_for_report(config) as db:
        since = datetime.now(tz=UTC) - WINDOW
        history = observed(db, since=since)
    found = [
        suggest(
            test.id,
            history.get(test.id, Observations()),
            current=plan[test.id].profile,
            profiles=config.profiles.values(),
            minimum_runs=options.minimum_runs,
        )
        for test in chosen
    ]
    found.sort(key=advice_order)
    show(suggestions_table(found), options.output_format)
    if options.output_format == "table":
        say()
        say(suggestions_text(found, minimum_runs=options.minimum_runs))
    if options.apply:
        _apply(
            config, everything, [one for one in found if one.suggested], people=options.output_format == "table"
        )
    return ExitCode.OK


def _silent(message: str) -> None:
    """Drop a notice that was already printed."""


def _assigned(config: Config, tests: Sequence[Test]) -> Mapping[TestId, Assignment]:
    plan = assign(
        tests,
        rules=config.rules,
        profiles=config.profiles,
        default=config.default_profile,
        run_id=str(uuid.uuid4()),
        forced=None,
        history={},
        host=_ANY_HOST,
        retries=config.run.retries,
        repeat=1,
        strict_limits=False,
    )
    return {one.test.id: one for one in plan}


# ---------------------------------------------------------------- --apply


def _apply(config: Config, tests: Sequence[Test], found: Sequence[Suggestion], *, people: bool) -> None:
    write_line = say if people else note
    if not found:
        write_line("profiles.yaml needs no change")
        return
    if config.path is None:
        raise UsageError("there is no profiles.yaml to change", remedy="orch init writes one")
    path = config.path.resolve()  # keeps a symbolic link
    data = path.read_bytes()
    bom, before = data.startswith(b"\xef\xbb\xbf"), data.decode("utf-8-sig")
    wanted = {one.test_id: one.suggested for one in found if one.suggested}
    profiles, new = _changes(config.rules, tests, wanted)
    comment = f"orch profiles suggest --apply, {datetime.now(tz=UTC).date().isoformat()}"
    after = edited(before, file=config.path.name, profiles=profiles, new=new, comment=comment)
    names = (f"a/{config.path.name}", f"b/{config.path.name}")
    diff = difflib.unified_diff(before.splitlines(), after.splitlines(), *names, lineterm="")
    write_line("\n".join(map(visible, diff)))
    _check(config, path, after, tests, wanted)
    if path.read_bytes() != data:
        raise UsageError(f"{config.path} was changed by another program", remedy="run the command again")
    _write(path, (b"\xef\xbb\xbf" if bom else b"") + after.encode("utf-8"))
    write_line(f"{config.path} written: {plural(len(found), 'test')} under another profile")


def _changes(
    rules: Sequence[Rule], tests: Sequence[Test], wanted: Mapping[TestId, str]
) -> tuple[dict[int, str], list[NewRule]]:
    """Return the changes to the rules: (the new profile of an existing rule by its index, new rules).

    A rule gets another profile if all its tests need the same one; otherwise each test gets a rule of its own.
    """
    by_rule: dict[int | None, list[Test]] = {}
    for test in tests:
        index = next((index for index, rule in enumerate(rules) if matches(rule, test)), None)
        by_rule.setdefault(index, []).append(test)
    profiles: dict[int, str] = {}
    new: list[NewRule] = []
    for index, members in by_rule.items():
        targets = {wanted.get(test.id) for test in members}
        target = next(iter(targets)) if len(targets) == 1 else None
        if index is not None and target is not None and _only_a_profile(rules[index]):
            profiles[index] = target
        else:
            rule = rules[index] if index is not None else None
            new += [_new_rule(test, wanted[test.id], rule) for test in members if test.id in wanted]
    return profiles, new


def _only_a_profile(rule: Rule) -> bool:
    limits = (rule.cpus, rule.memory_bytes, rule.timeout_seconds)
    return rule.profile is not None and limits == (None, None, None)


def _new_rule(test: Test, profile: str, rule: Rule | None) -> NewRule:
    if rule is None:
        return NewRule(match=str(test.id), profile=profile)
    return NewRule(
        match=str(test.id), profile=profile, retries=rule.retries, exclusive=rule.exclusive, group=rule.group
    )


def _check(config: Config, path: Path, text: str, tests: Sequence[Test], wanted: Mapping[TestId, str]) -> None:
    """Check that `text`, read as the next run would read it, gives each test the wanted profile and no other
    change.

    Raises UsageError if it does not, StateError if the trial file cannot be written.
    """
    trial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.trial")
    try:
        trial.write_text(text, encoding="utf-8", newline="")
        after_config = load_config(path=trial, start=Path.cwd(), env=_without_file(os.environ))
    except OSError as error:
        raise StateError(f"{trial} cannot be written: {error.strerror}") from error
    except ConfigError as error:
        raise _unsafe(path) from error
    finally:
        trial.unlink(missing_ok=True)
    before, after = _assigned(config, tests), _assigned(after_config, tests)
    for test in tests:
        old, now = before[test.id], after[test.id]
        meant = clamp(config.profiles[wanted[test.id]], _ANY_HOST)[0] if test.id in wanted else old.profile
        if _terms(now, now.profile) != _terms(old, meant):
            raise _unsafe(path)


def _without_file(env: Mapping[str, str]) -> Mapping[str, str]:
    return {name: value for name, value in env.items() if name != "ORCH_CONFIG"}


def _terms(assignment: Assignment, profile: Profile) -> tuple[object, ...]:
    return (profile, assignment.retries, assignment.exclusive, assignment.group)


def _unsafe(path: Path) -> OrchError:
    return UsageError(
        f"{path.name} was not changed: the change above would not have the intended effect",
        remedy="YAML anchors and aliases may be the cause; change the file by hand",
    )


def _write(path: Path, data: bytes) -> None:
    mode = path.stat().st_mode & 0o7777
    try:
        write_atomically(path, data)
        path.chmod(mode)
    except OSError as error:
        raise StateError(f"{path} cannot be written: {error.strerror}") from error


def profiles_show(
    *, config_path: Path | None, database: str | None, names: tuple[str, ...], output_format: str
) -> int:
    """Print profiles with their limits."""
    config = load_with_database(config_path, database)
    from orchestrator.scheduling.assign import known_profile

    for name in names:
        known_profile(name, config.profiles, "profiles show")
    wanted = [p for p in config.profiles.values() if not names or p.name in names]
    if output_format == "json":
        say(to_json({"schema": 1, "profiles": [_plain(p) for p in wanted]}))
    else:
        show(_profiles_table(wanted), "table")
    return ExitCode.OK


def _profiles_table(profiles: list[Profile]) -> Table:
    titles = ("cpus", "memory", "timeout", "tmpfs", "pids")
    columns = (
        Column(key="profile", title="profile"),
        *(Column(key=title, title=title, right=True) for title in titles),
        Column(key="network", title="network"),
        Column(key="image", title="image"),
        Column(key="reuse", title="reuse", right=True),
        Column(key="description", title="for"),
    )
    rows = tuple(
        (
            p.name,
            Figure(p.limits.cpus, "count"),
            Figure(p.limits.memory_bytes, "bytes"),
            Figure(p.limits.timeout_seconds, "seconds"),
            Figure(p.limits.tmpfs_bytes, "bytes"),
            Figure(p.limits.pids, "count"),
            p.network.value,
            p.image + "".join(f" +{c}" for c in p.capabilities),
            "auto" if p.auto_reuse else Figure(p.reuse, "count"),
            p.description,
        )
        for p in profiles
    )
    return Table(name="profiles", columns=columns, rows=rows)


def _plain(value: object) -> Any:
    """Return a profile, or a value in it, as values that JSON can express."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple | list | frozenset):
        return [_plain(v) for v in value]
    if hasattr(value, "items"):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value
