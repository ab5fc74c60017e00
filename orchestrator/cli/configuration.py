"""Commands that write and show the configuration."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from orchestrator.cli.options import PATH, TABLES, config_options, format_option, option


@click.command()
@click.argument("folder", type=PATH, default=Path())
@option("--force", is_flag=True, help="Overwrite an existing profiles.yaml.")
def init(**options: Any) -> None:
    """Write a commented profiles.yaml for a project."""
    from orchestrator.commands.config import init as command

    sys.exit(command(**options))


@click.group()
def profiles() -> None:
    """Show the resource profiles, or suggest better ones."""


@profiles.command("show")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@format_option("table", "json")
@config_options
def profiles_show(**options: Any) -> None:
    """Show the profiles with their limits."""
    from orchestrator.commands.profiles import profiles_show as command

    sys.exit(command(**options))


@profiles.command("suggest")
@click.argument("paths", nargs=-1)
@option(
    "--min-runs",
    "minimum_runs",
    metavar="N",
    type=click.IntRange(2),
    default=10,
    show_default=True,
    help="Suggest nothing for a test that passed in fewer than N runs.",
)
@option("--apply", is_flag=True, help="Print a diff of profiles.yaml, then write the file.")
@format_option(*TABLES)
@config_options
def profiles_suggest(**options: Any) -> None:
    """Suggest the smallest sufficient profile for each test.

    Uses the history of the last 30 days. Memory: the highest peak and 15 % more (25 % if the test ever ran out of
    memory). Time: the 99th percentile and half as much again. CPUs: the 95th percentile. A suggested profile would
    have ended none of the recorded attempts.
    """
    from orchestrator.commands.profiles import SuggestOptions
    from orchestrator.commands.profiles import profiles_suggest as command

    sys.exit(command(SuggestOptions(**options)))


@click.command("show-config")
@option("--origin", is_flag=True, help="Show where each value comes from.")
@format_option("table", "json")
@config_options
def show_config(**options: Any) -> None:
    """Show the configuration in effect."""
    from orchestrator.commands.config import show_config as command

    sys.exit(command(**options))


@click.command()
def schema() -> None:
    """Print the JSON Schema of profiles.yaml."""
    from orchestrator.commands.config import schema as command

    sys.exit(command())
