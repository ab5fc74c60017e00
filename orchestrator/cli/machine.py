"""Commands that check and maintain this machine: engine, images, isolation, objects left by dead runs."""

from __future__ import annotations

import sys
from typing import Any

import click

from orchestrator.cli.options import config_options, engine_option, format_option, offline_base_option, option


@click.command()
@format_option("table", "json")
@config_options
@engine_option
def doctor(**options: Any) -> None:
    """Check whether this machine can run tests.

    Checks engine, cgroups, limits, disk and images, and names a remedy for each problem.
    """
    from orchestrator.commands.doctor import doctor as command

    sys.exit(command(**options))


@click.command("self-test")
@option(
    "--profile",
    "profiles",
    multiple=True,
    metavar="NAME",
    show_default="all profiles",
    help="Check this profile. May be given more than once.",
)
@offline_base_option
@option("-v", "--verbose", is_flag=True, help="Print a line for each check, not only for each group.")
@format_option("table", "json")
@config_options
@engine_option
def self_test(**options: Any) -> None:
    """Check the isolation of each profile inside a real container.

    Exit code 0: every check that applies is proven; 3: at least one is not; 36: the engine failed.
    """
    from orchestrator.commands.self_test import self_test as command

    sys.exit(command(**options))


@click.command()
@click.argument("names", nargs=-1, metavar="[IMAGE]...")
@offline_base_option
@option("-q", "--quiet", is_flag=True, help="Print no build output.")
@config_options
@engine_option
def build(**options: Any) -> None:
    """Build the images that profiles.yaml names.

    Builds only the given IMAGEs if there are any.
    """
    from orchestrator.commands.build import build as command

    sys.exit(command(**options))


@click.command()
@option("--older-than", metavar="DURATION", help="Remove only what is older, such as 1h.")
@option("--dry-run", is_flag=True, help="Print what would be removed, and stop.")
@engine_option
def clean(**options: Any) -> None:
    """Remove what dead runs left: containers, networks, cgroups.

    Removes also volumes and temporary folders. A run is dead if its orch process no longer exists.
    """
    from orchestrator.commands.clean import clean as command

    sys.exit(command(**options))
