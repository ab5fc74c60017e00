"""Commands that read recorded results."""

from __future__ import annotations

import sys
from typing import Any

import click

from orchestrator.cli.options import (
    PATH,
    TABLES,
    config_options,
    engine_option,
    file_option,
    format_option,
    limit_option,
    option,
    since_option,
    until_option,
)
from orchestrator.model.resources import Resource

RESOURCES = [resource.value for resource in Resource]


@click.command()
@since_option(show_default="7d; for --html and --prometheus 24h")
@until_option
@option("--run", "run_id", metavar="RUN", help="Report on this run (an id, or latest) instead of a window.")
@option("--violations", is_flag=True, help="Report violations, most severe first, instead of usage.")
@option(
    "--resource",
    "resources",
    multiple=True,
    type=click.Choice([*RESOURCES, "all"]),
    help="Show all figures of this resource, instead of a few figures of several. May be given more than once.",
)
@option(
    "--sort",
    type=click.Choice(["test", "runs", "maximum", "mean", "p50", "p95", "p99", "trend"]),
    default="test",
    show_default=True,
    help="Sort by this figure of the first resource, largest first; test: by name.",
)
@limit_option(50, "tests or violations")
@format_option(*TABLES, "sarif", note="json and csv have a row per test and resource; sarif is for violations.")
@file_option("--html", "Write the nightly report as one file that needs no network.")
@file_option("--prometheus", "Write figures for node_exporter's textfile collector (name the file *.prom).")
@config_options
def report(**options: Any) -> None:
    """Show what each test used: maximum, percentiles, trend.

    \b
      orch report --since 24h                        the last 24 hours
      orch report --resource memory --sort p95       all figures of memory, largest first
      orch report --violations --format sarif        violations, for a program
      orch report --since 24h --html nightly.html    the nightly report
    """  # noqa: D301 - click reads the backspace, which a raw docstring would not contain
    from orchestrator.commands.report import ReportOptions
    from orchestrator.commands.report import report as command

    sys.exit(command(ReportOptions(**options)))


@click.command()
@option(
    "--by",
    type=click.Choice([*RESOURCES, "all"]),
    default="memory",
    show_default=True,
    help="Rank by this resource; all: one table for each. Ratios are of the limit.",
)
@since_option(default="7d", show_default=True)
@until_option
@limit_option(10)
@format_option(*TABLES)
@config_options
def offenders(**options: Any) -> None:
    """Show the tests that use most of a resource."""
    from orchestrator.commands.report import offenders as command

    sys.exit(command(**options))


@click.command()
@click.argument("run_id", metavar="[RUN]", default="latest")
@option(
    "--baseline",
    metavar="RUN|BRANCH|FILE",
    help="Compare with the runs up to and including RUN, those of BRANCH, or those in FILE.",
)
@option("--memory", metavar="GROWTH", default="+10%", show_default=True, help="Allowed growth of memory, or off.")
@option("--time", metavar="GROWTH", default="+20%", show_default=True, help="Allowed growth of duration, or off.")
@option("--cpu", metavar="GROWTH", default="off", show_default=True, help="Allowed growth of CPU time, or off.")
@file_option("--save", "Write RUN and the earlier runs of its branch as a baseline, and stop.")
@format_option(*TABLES, "github", note="json and csv have every comparison; github prints annotations.")
@config_options
def check(**options: Any) -> None:
    """Compare resource usage with a baseline.

    Exit code 3 if a test has a resource regression. The newest runs (RUN and up to four before it, of its revision
    or its branch) are compared, test by test, with up to 50 runs of the baseline. Growth counts if three new runs
    show it beyond noise: see orch help gates.

    \b
      orch check --baseline main                     the latest runs with those of the branch main
      orch check --save main.json                    write a baseline
      orch check --baseline main.json --cpu +30%     compare with it, CPU time too
    """  # noqa: D301 - click reads the backspace, which a raw docstring would not contain
    from orchestrator.commands.check import CheckOptions
    from orchestrator.commands.check import check as command

    sys.exit(command(CheckOptions(**options)))


@click.command()
@since_option(default="30d", show_default=True)
@until_option
@option(
    "--diagnose",
    metavar="TEST",
    help="Run this test (its id, or the end of it) under several conditions, and show which make it fail.",
)
@option(
    "--runs",
    metavar="N",
    type=click.IntRange(5),
    show_default="10",
    help="With --diagnose: run the test N times under each condition, at least 5.",
)
@limit_option(20)
@format_option(*TABLES)
@config_options
@engine_option
def flaky(**options: Any) -> None:
    """Show flaky tests and what their failures have in common.

    The failures of a test are compared with its passes: throttling, memory near its limit, tests that ran beside
    it and their number, running alone, a reused container and the test before it there, preloading, duration, host
    and profile. A cause is named only if chance would produce so clear a difference in less than 1 of 100 tests,
    and if there are at least 5 failures and 5 passes.

    The conditions of --diagnose: alone, beside itself, beside and after the tests that the history suspects, in a
    reused container, with half its CPUs, on a busy host, with little memory.

    \b
      orch flaky                                the last 30 days, highest failure rate first
      orch flaky --since 7d --format json       for a program
      orch flaky --diagnose test/test_net.py    run one test under several conditions
    """  # noqa: D301 - click reads the backspace, which a raw docstring would not contain
    from orchestrator.commands.flaky import FlakyOptions
    from orchestrator.commands.flaky import flaky as command

    sys.exit(command(FlakyOptions(**options)))


# ---------------------------------------------------------------- orch runs


@click.group()
def runs() -> None:
    """List, show, compare, export and remove recorded runs."""


@runs.command("list")
@limit_option(20, "runs")
@format_option(*TABLES)
@config_options
def runs_list(**options: Any) -> None:
    """List the latest runs."""
    from orchestrator.commands.runs import runs_list as command

    sys.exit(command(**options))


@runs.command("show")
@click.argument("run_id", metavar="[RUN]", default="latest")
@format_option(*TABLES)
@config_options
def runs_show(**options: Any) -> None:
    """Show the tests of a run, their usage and their violations."""
    from orchestrator.commands.runs import runs_show as command

    sys.exit(command(**options))


@runs.command("diff")
@click.argument("before", metavar="BEFORE")
@click.argument("after", metavar="[AFTER]", default="latest")
@format_option(*TABLES)
@config_options
def runs_diff(**options: Any) -> None:
    """Show what changed between two runs."""
    from orchestrator.commands.runs import runs_diff as command

    sys.exit(command(**options))


@runs.command("export")
@click.argument("run_id", metavar="[RUN]", default="latest")
@file_option("--out", "Write to this file.", show_default="standard output")
@config_options
def runs_export(**options: Any) -> None:
    """Export everything that is recorded of a run, as JSON."""
    from orchestrator.commands.runs import runs_export as command

    sys.exit(command(**options))


@runs.command("prune")
@option("--dry-run", is_flag=True, help="Print what would be removed, and stop.")
@config_options
def runs_prune(**options: Any) -> None:
    """Remove the run folders and records that retention no longer keeps."""
    from orchestrator.commands.runs import runs_prune as command

    sys.exit(command(**options))


# ---------------------------------------------------------------- orch db


@click.group()
def db() -> None:
    """Show, shrink and merge resource databases."""


@db.command("path")
@config_options
def db_path(**options: Any) -> None:
    """Print the path or URL of the database."""
    from orchestrator.commands.db import db_path as command

    sys.exit(command(**options))


@db.command("info")
@format_option(*TABLES)
@config_options
def db_info(**options: Any) -> None:
    """Show the size of each table and the period that is covered."""
    from orchestrator.commands.db import db_info as command

    sys.exit(command(**options))


@db.command("vacuum")
@config_options
def db_vacuum(**options: Any) -> None:
    """Return the space of deleted records to the disk.

    Needs as much free disk space as the database has, until it has ended.
    """
    from orchestrator.commands.db import db_vacuum as command

    sys.exit(command(**options))


@db.command("merge")
@click.argument("files", nargs=-1, required=True, type=PATH, metavar="FILE...")
@config_options
def db_merge(**options: Any) -> None:
    """Copy the records of other databases into this one.

    For example those of shards. Files may be merged in any order and more than once: records that are already
    there are skipped. No FILE is changed. A file of an older orch is upgraded in a copy; one of a newer orch is
    refused.
    """
    from orchestrator.commands.db import db_merge as command

    sys.exit(command(**options))
