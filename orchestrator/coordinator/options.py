"""The options of `orch run` as one value, and the bundles of flags that profiles.yaml names."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.coordinator.earlier_reports import remove_earlier_reports
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    import click


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The options that select and assign tests. None means that the configuration decides."""

    paths: tuple[str, ...] = ()
    profile: str | None = None
    only_profile: str | None = None
    filter_text: str | None = None
    rerun: str | None = None
    shard: str | None = None
    shard_by: str = "hash"
    jobs: str | None = None
    retries: int | None = None
    repeat: int | None = None
    strict_limits: bool | None = None
    fresh: bool = False
    strict_selection: bool = False
    no_tests: str | None = None
    config_path: Path | None = None
    database: str | None = None
    engine_url: str | None = None

    def overrides(self) -> dict[str, str]:
        """Return the settings that the command line overrides, as `load_config` takes them."""
        given = {
            "run.jobs": self.jobs,
            "run.retries": self.retries,
            "run.strict_limits": None if self.strict_limits is None else str(self.strict_limits).lower(),
            "run.no_tests": self.no_tests,
            "database": self.database,
        }
        return {name: str(value) for name, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions(Selection):
    """All options of `orch run`."""

    flaky_result: str | None = None
    max_fail: int | None = None
    timeout: str | None = None
    violations: str | None = None
    success_output: str | None = None
    failure_output: str | None = None
    show_progress: str = "auto"
    output_format: str = "table"
    junit: Path | None = None
    sarif: Path | None = None
    ctrf: Path | None = None
    gitlab_metrics: Path | None = None
    github: bool | None = None
    """True or False: write for GitHub or not. None: write if the variable GITHUB_ACTIONS is `true`."""
    step_summary: Path | None = None
    offline_base: bool = False
    allow_unenforced: bool = False
    preset: str | None = None
    dry_run: bool = False

    def overrides(self) -> dict[str, str]:
        """Return the settings that the command line overrides, as `load_config` takes them."""
        given = {
            "run.flaky_result": self.flaky_result,
            "run.max_fail": self.max_fail,
            "run.timeout": self.timeout,
            "run.violations": self.violations,
            "run.success_output": self.success_output,
            "run.failure_output": self.failure_output,
        }
        named = {name: str(value) for name, value in given.items() if value is not None}
        # super() would mean the class that the decorator of a slotted dataclass has replaced
        return {**Selection.overrides(self), **named}


def run_options(context: click.Context, options: dict[str, Any]) -> RunOptions:
    """Return the options of `orch run`, with those of its preset. Remove the report files that they name.

    The files are removed here, so that a run that fails leaves no report of an earlier one.
    """
    if not options["dry_run"]:
        remove_earlier_reports(options)  # before the configuration is read, because that may fail
    given = RunOptions(**apply_preset(context, options))
    if not given.dry_run:
        remove_earlier_reports({field.name: getattr(given, field.name) for field in fields(given)})
    return given


def apply_preset(context: click.Context, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options, with those of `--preset` for every option that the command line does not give.

    Raises UsageError if there is no such preset.
    """
    name = options["preset"]
    if name is None:
        return options
    from click.core import ParameterSource

    from orchestrator.config.loader import load_config

    config = load_config(path=options["config_path"], start=Path.cwd(), env=os.environ)
    if name not in config.presets:
        known = ", ".join(sorted(config.presets)) or "none is defined"
        raise UsageError(f"no preset is called {name!r}", remedy=f"presets of profiles.yaml: {known}")
    words = [word for text in config.presets[name] for word in shlex.split(text)]
    preset = context.command.make_context("run", words, parent=context.parent)
    merged = dict(options)
    for key, value in preset.params.items():
        ours = context.get_parameter_source(key)
        theirs = preset.get_parameter_source(key)
        if ours is ParameterSource.DEFAULT and theirs is ParameterSource.COMMANDLINE:
            merged[key] = value
    return merged
