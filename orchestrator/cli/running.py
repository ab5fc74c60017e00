"""Commands that run tests, or show which tests would run."""

from __future__ import annotations

import sys
from typing import Any

import click

from orchestrator.cli.options import (
    EXECUTION,
    FILES,
    OUTPUT,
    Command,
    config_options,
    engine_option,
    file_option,
    format_option,
    offline_base_option,
    option,
    selection,
    setting,
)

OUTPUT_WHEN = click.Choice(["immediate", "final", "never"])


@click.command(cls=Command)
@selection
@option("--timeout", metavar="DURATION", heading=EXECUTION, help="End the whole run after this time, such as 10m.")
@option(
    "--max-fail",
    metavar="N",
    type=click.IntRange(1),
    heading=EXECUTION,
    help="Start no further test after N failures.",
)
@option(
    "--flaky-result",
    type=click.Choice(["pass", "fail"]),
    show_default=setting("run.flaky_result", "pass"),
    heading=EXECUTION,
    help="Whether a flaky test counts as passed or failed.",
)
@option(
    "--violations",
    type=click.Choice(["off", "warn", "fail"]),
    show_default=setting("run.violations", "warn"),
    heading=EXECUTION,
    help="What to do about violations. off: do not detect them; fail: exit code 3 if any is more than a notice.",
)
@offline_base_option
@option(
    "--allow-unenforced",
    is_flag=True,
    heading=EXECUTION,
    help="Run even if the engine ignores limits (rootless without delegation). Every result is marked.",
)
@option(
    "--preset", metavar="NAME", heading=EXECUTION, help="Add the flags of a preset of profiles.yaml, such as ci."
)
@option("--dry-run", is_flag=True, heading=EXECUTION, help="Print the plan and stop.")
@option(
    "--success-output",
    type=OUTPUT_WHEN,
    show_default=setting("run.success_output", "never"),
    heading=OUTPUT,
    help="When to print the output of a test that passed.",
)
@option(
    "--failure-output",
    type=OUTPUT_WHEN,
    show_default=setting("run.failure_output", "final"),
    heading=OUTPUT,
    help="When to print the output of a test that did not pass.",
)
@option(
    "--show-progress",
    type=click.Choice(["auto", "bar", "plain", "none"]),
    default="auto",
    show_default=True,
    heading=OUTPUT,
    help="How to show progress. auto: a bar on a terminal, else plain lines.",
)
@format_option("table", "json", "jsonl", heading=OUTPUT)
@option(
    "--github/--no-github",
    default=None,
    show_default="on if GITHUB_ACTIONS is true",
    heading=OUTPUT,
    help="Print GitHub annotations and write the step summary.",
)
@file_option("--junit", "Write JUnit XML (Jenkins dialect).", heading=FILES)
@file_option("--sarif", "Write the violations as SARIF 2.1.0.", heading=FILES)
@file_option("--ctrf", "Write a CTRF report (JSON).", heading=FILES)
@file_option("--gitlab-metrics", "Write metrics.txt for GitLab's metrics report (OpenMetrics).", heading=FILES)
@file_option(
    "--step-summary",
    "Append the step summary (Markdown).",
    show_default="GITHUB_STEP_SUMMARY, with --github",
    heading=FILES,
)
@config_options
@engine_option
@click.pass_context
def run(context: click.Context, /, **options: Any) -> None:
    """Run tests, each in a container with the limits of its profile.

    PATHS are files, folders or file::case; without any, every test that the suites match.

    \b
      orch run                                  all tests
      orch run tests/unit -j 4 --retries 1      those of a folder, 4 at once; a failed one once more
      orch run -R latest                        those that did not pass in the latest run
      orch run --junit junit.xml --preset ci    in a CI job
    """  # noqa: D301 - click reads the backspace, which a raw docstring would not contain
    from orchestrator.commands.run import run as command
    from orchestrator.coordinator.options import run_options

    sys.exit(command(run_options(context, options)))


@click.command(cls=Command)
@selection
@file_option("--out", "Write the plan as JSON to this file.", heading=OUTPUT)
@format_option("table", "json", heading=OUTPUT)
@config_options
@engine_option
def plan(**options: Any) -> None:
    """Show which tests would run, under which profile and why.

    Shows also the predicted schedule and time, and what limits the parallelism. Nothing is started.
    """
    from orchestrator.commands.plan import plan as command

    sys.exit(command(**options))


@click.command("list", cls=Command)
@selection
@format_option("table", "json", heading=OUTPUT)
@config_options
def list_(**options: Any) -> None:
    """List the selected tests, one per line. Needs no engine."""
    from orchestrator.commands.plan import list_tests as command

    sys.exit(command(**options))


@click.command()
@click.argument("target", metavar="RUN:TEST")
@option("--run", "run_it", is_flag=True, help="Run the test once more, without recording it, and compare.")
@config_options
@engine_option
def repro(**options: Any) -> None:
    """Print the engine command that runs a recorded test again.

    RUN is a run's id, the beginning of one, or latest. TEST is a test's id, or the end of one.

    \b
      orch repro latest:test_parse.py           print the command
      orch repro latest:test_parse.py --run     run it, and compare with the recorded result
    """  # noqa: D301 - click reads the backspace, which a raw docstring would not contain
    from orchestrator.commands.repro import repro as command

    sys.exit(command(**options))


@click.command()
@click.argument("argv", nargs=-1, metavar="[COMMAND]...")
@option(
    "--profile",
    metavar="NAME",
    default="intensive",
    show_default=True,
    help="Use the image and the limits of this profile.",
)
@option("--offline-base", is_flag=True, hidden=True)
@config_options
@engine_option
def shell(**options: Any) -> None:
    """Open a shell in a profile's image, under its limits.

    Runs COMMAND instead of a shell if one is given. The project is mounted read-only, as for a test.
    """
    from orchestrator.commands.shell import shell as command

    sys.exit(command(**options))
