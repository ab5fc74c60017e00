"""The command line: parse, one call, errors to exit codes. No logic.

Nothing but click is imported until a command is known, so that `orch --help` is quick.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator import __version__
from orchestrator.errors import ExitCode, Interrupted, OrchError
from orchestrator.model.resources import Resource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OUTPUT_WHEN = click.Choice(["immediate", "final", "never"])
FORMATS = click.Choice(["table", "json", "csv", "markdown"])
RESOURCES = [resource.value for resource in Resource]
GC_THRESHOLDS = (50_000, 20, 50)
"""Objects made, less those gone, before Python looks for cycles. Its own 700 took 8 % of the CPU time of a run of
1,000 tests and nearly as much of the start; what is made here goes without: the memory of a run is the same.
"""
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of every command that reads the configuration."""
    for option in (
        click.option(
            "--config",
            "config_path",
            metavar="FILE",
            type=click.Path(path_type=Path),
            help="profiles.yaml to use instead of the nearest one upwards.",
        ),
        click.option(
            "--db",
            "database",
            metavar="URL",
            help="Resource database: the path of a file (.db), or an SQLAlchemy URL.",
        ),
    ):
        command = option(command)
    return command


def with_engine(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of every command that talks to the container engine."""
    return click.option(
        "--engine",
        "engine_url",
        metavar="URL",
        help="Engine's address (default: DOCKER_HOST, the current context, the usual sockets).",
    )(command)


def selection(command: Callable[..., Any]) -> Callable[..., Any]:
    """What to run and how it is assigned: the same for run, plan and list."""
    for option in (
        click.argument("paths", nargs=-1),
        click.option("--profile", metavar="NAME", help="Put every selected test under this profile."),
        click.option("--only-profile", metavar="NAME", help="Select the tests that map to this profile."),
        click.option(
            "-E",
            "--filter",
            "filter_text",
            metavar="EXPR",
            help="Select by an expression, e.g. 'test(parse) and not profile(slow)'; see orch help filters.",
        ),
        click.option("-R", "--rerun", metavar="RUN", help="Select what did not pass in RUN (latest, or an id)."),
        click.option(
            "--shard",
            metavar="M/N|auto",
            help="Run the M-th of N parts; auto: as GitHub, GitLab or Buildkite number this job.",
        ),
        click.option(
            "--shard-by",
            type=click.Choice(["time", "memory", "hash"]),
            default="hash",
            show_default=True,
            help="How the parts are balanced; time and memory need the same history on all shards.",
        ),
        click.option("-j", "--jobs", metavar="N", help="Slots at once, or auto."),
        click.option(
            "--retries",
            type=click.IntRange(0),
            help="Run a failed test again up to so often; a later pass is flaky.",
        ),
        click.option("--repeat", type=click.IntRange(1), help="Run each test so often."),
        click.option(
            "--strict-limits",
            is_flag=True,
            default=None,
            help="Refuse profiles larger than this host instead of clamping them.",
        ),
        click.option(
            "--strict-selection",
            is_flag=True,
            help="Refuse (exit 4) to leave out tests that were found and cannot run, instead of saying so.",
        ),
        click.option(
            "--no-tests",
            type=click.Choice(["pass", "warn", "fail"]),
            help="What an empty selection means (default: fail, exit 4).",
        ),
    ):
        command = option(command)
    return command


class Program(click.Group):
    """The group of all commands. A reader of stdout that goes away is a signal, as it is to other programs;
    click itself would make exit code 1 of it, which is that of failed tests.
    """

    def invoke(self, context: click.Context) -> Any:
        """Run the command, and hand over what it printed while an error can still be told."""
        try:
            try:
                return super().invoke(context)
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()
        except BrokenPipeError:
            # Python would complain once more when it flushes at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise Interrupted(signal.SIGPIPE) from None


@click.group(cls=Program, context_settings=CONTEXT, no_args_is_help=True)
@click.version_option(__version__, prog_name="orch")
def orch() -> None:
    """Run tests in containers, each inside its own limits, and know what each one used.

    \b
      orch run test/                      run the tests below test/, each under the profile it maps to
      orch run --profile standard test/   all of them under one profile
      orch offenders                      which tests cost most
      orch doctor                         whether this machine can do it
    """  # noqa: D301 - click wants the character itself, which a raw docstring has not


@orch.command()
@selection
@common
@with_engine
@click.option("--flaky-result", type=click.Choice(["pass", "fail"]), help="What a flaky pass counts as.")
@click.option("--max-fail", type=click.IntRange(1), metavar="N", help="Start nothing new after N failures.")
@click.option("--timeout", metavar="DURATION", help="Longest time of the whole run, e.g. 10m.")
@click.option(
    "--violations",
    type=click.Choice(["off", "warn", "fail"]),
    help="Broken budgets: not looked for, told, or exit code 3 for all but notices.",
)
@click.option("--success-output", type=OUTPUT_WHEN, help="When to print a passed test's output.")
@click.option("--failure-output", type=OUTPUT_WHEN, help="When to print a failed test's output.")
@click.option(
    "--show-progress", type=click.Choice(["auto", "bar", "plain", "none"]), default="auto", show_default=True
)
@click.option(
    "--format", "output_format", type=click.Choice(["table", "json", "jsonl"]), default="table", show_default=True
)
@click.option(
    "--junit", metavar="FILE", type=click.Path(path_type=Path), help="Write JUnit XML (Jenkins dialect)."
)
@click.option(
    "--sarif", metavar="FILE", type=click.Path(path_type=Path), help="Write broken budgets as SARIF 2.1.0."
)
@click.option("--ctrf", metavar="FILE", type=click.Path(path_type=Path), help="Write a CTRF report (JSON).")
@click.option(
    "--gitlab-metrics",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write metrics.txt for GitLab's metrics report (OpenMetrics).",
)
@click.option(
    "--github/--no-github",
    default=None,
    help="GitHub's annotations, and its step summary.  [default: where GITHUB_ACTIONS is true]",
)
@click.option(
    "--step-summary",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Append the step summary (Markdown) to FILE.  [default with --github: GITHUB_STEP_SUMMARY]",
)
@click.option(
    "--offline-base",
    is_flag=True,
    help="Where no registry answers, build on a Debian base made from this machine's package mirror.",
)
@click.option(
    "--allow-unenforced",
    is_flag=True,
    help="Run although the engine ignores limits (rootless without delegation); every result says so.",
)
@click.option("--preset", metavar="NAME", help="A bundle of flags from profiles.yaml, such as ci.")
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.")
@click.pass_context
def run(context: click.Context, /, **options: Any) -> None:
    """Run tests (files, folders or file::case; default: everything the suites match)."""
    from orchestrator.commands.run import run as command
    from orchestrator.coordinator.options import run_options

    sys.exit(command(run_options(context, options)))


@orch.command()
@selection
@common
@with_engine
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write the plan as JSON.")
@click.option(
    "--format", "output_format", type=click.Choice(["table", "json"]), default="table", show_default=True
)
def plan(**options: Any) -> None:
    """What would run, under which profile and why, and what limits the parallelism."""
    from orchestrator.commands.plan import plan as command

    sys.exit(command(**options))


@orch.command("list")
@selection
@common
@click.option(
    "--format", "output_format", type=click.Choice(["table", "json"]), default="table", show_default=True
)
def list_(**options: Any) -> None:
    """The selected tests, one a line. Needs no engine."""
    from orchestrator.commands.plan import list_tests as command

    sys.exit(command(**options))


SINCE = "How far back: 24h, 7d, 2w, all, or a date."
UNTIL = "End of the window, likewise; default: now."


@orch.command()
@common
@click.option("--since", metavar="WINDOW", help=f"{SINCE}  [default: 7d; of a file 24h]")
@click.option("--until", metavar="WHEN", help=UNTIL)
@click.option("--run", "run_id", metavar="RUN", help="One run instead of a window.")
@click.option(
    "--html",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The nightly report, one file that needs no network, instead of a table.",
)
@click.option(
    "--prometheus",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Its figures for node_exporter's textfile collector (name it *.prom), likewise.",
)
@click.option("--violations", is_flag=True, help="The budgets that were broken, gravest first.")
@click.option(
    "--resource",
    "resources",
    multiple=True,
    type=click.Choice([*RESOURCES, "all"]),
    help="All figures of this resource (repeatable; all: of each) instead of a few of several.",
)
@click.option(
    "--sort",
    type=click.Choice(["test", "runs", "maximum", "mean", "p50", "p95", "p99", "trend"]),
    default="test",
    show_default=True,
    help="By a figure of the first resource, largest first.",
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice([*FORMATS.choices, "sarif"]),
    default="table",
    show_default=True,
    help="sarif is for violations; json and csv have a row for each test and resource.",
)
@click.option(
    "--limit", type=click.IntRange(1), default=50, show_default=True, help="Tests, or violations, shown."
)
def report(**options: Any) -> None:
    """What each test used over a window or in one run: maximum, mean, percentiles, trend; what it broke."""
    from orchestrator.commands.report import ReportOptions
    from orchestrator.commands.report import report as command

    sys.exit(command(ReportOptions(**options)))


@orch.command()
@common
@click.option(
    "--by",
    type=click.Choice([*RESOURCES, "all"]),
    default="memory",
    show_default=True,
    help="What to rank by; ratios are of the limit; all: each of them.",
)
@click.option("--since", metavar="WINDOW", default="7d", show_default=True, help=SINCE)
@click.option("--until", metavar="WHEN", help=UNTIL)
@click.option("--format", "output_format", type=FORMATS, default="table", show_default=True)
@click.option("--limit", type=click.IntRange(1), default=10, show_default=True)
def offenders(**options: Any) -> None:
    """The tests that cost most: by memory, CPU, duration, share of a limit, processes, throttling, I/O."""
    from orchestrator.commands.report import offenders as command

    sys.exit(command(**options))


@orch.command()
@common
@click.argument("run_id", metavar="[RUN]", default="latest")
@click.option(
    "--baseline", metavar="RUN|BRANCH|FILE", help="The runs to compare with: up to and with RUN, or of BRANCH."
)
@click.option("--memory", metavar="GROWTH", default="+10%", show_default=True, help="Allowed growth, or off.")
@click.option("--time", metavar="GROWTH", default="+20%", show_default=True, help="Likewise, of durations.")
@click.option("--cpu", metavar="GROWTH", default="off", show_default=True, help="Likewise, of CPU time.")
@click.option(
    "--save",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write RUN and the runs before it on its branch as a baseline, and stop.",
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice([*FORMATS.choices, "github"]),
    default="table",
    show_default=True,
    help="github: annotations; json and csv have every comparison.",
)
def check(**options: Any) -> None:
    """Compare resource usage with a baseline. Exit code 3 if a test has a resource regression.

    The newest runs (RUN and up to four before it, of its revision or its branch) are compared with up to 50 runs
    of the baseline, test by test. Growth counts if three new runs show it beyond noise: see orch help gates.
    """
    from orchestrator.commands.check import CheckOptions
    from orchestrator.commands.check import check as command

    sys.exit(command(CheckOptions(**options)))


@orch.command()
@common
@with_engine
@click.option("--since", metavar="WINDOW", default="30d", show_default=True, help=SINCE)
@click.option("--until", metavar="WHEN", help=UNTIL)
@click.option(
    "--diagnose",
    metavar="TEST",
    help="Run this test (its id, or the end of it) under several conditions and say which make it fail.",
)
@click.option(
    "--runs",
    type=click.IntRange(5),
    metavar="N",
    help="How often under each condition.  [default: 10; fewer than 5 could show nothing]",
)
@click.option("--format", "output_format", type=FORMATS, default="table", show_default=True)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Tests shown.")
def flaky(**options: Any) -> None:
    """Tests that pass and fail: how often, and what their failures have in common against their passes.

    Looked at are: throttling, memory near its limit, tests that ran beside it and how many, being alone, a reused
    container and the test before it there, preloading, duration, host and profile. A cause is named only where
    chance makes so clear a difference in less than 1 of 100 tests, whatever the number of circumstances; with
    fewer than 5 failures and 5 passes none is.

    \b
      orch flaky                                the last 30 days, those that surely fail often first
      orch flaky --since 7d --format json       for a program
      orch flaky --diagnose test/test_net.py    alone, with itself, with its suspected neighbours, in a reused
                                                slot, with half its CPUs, on a busy host, with little memory
    """  # noqa: D301 - as above
    from orchestrator.commands.flaky import FlakyOptions
    from orchestrator.commands.flaky import flaky as command

    sys.exit(command(FlakyOptions(**options)))


@orch.group()
def profiles() -> None:
    """The resource profiles."""


@profiles.command("show")
@common
@click.argument("names", nargs=-1)
@click.option(
    "--format", "output_format", type=click.Choice(["table", "json"]), default="table", show_default=True
)
def profiles_show(**options: Any) -> None:
    """The profiles with their limits."""
    from orchestrator.commands.profiles import profiles_show as command

    sys.exit(command(**options))


@profiles.command("suggest")
@common
@click.argument("paths", nargs=-1)
@click.option(
    "--min-runs",
    "minimum_runs",
    type=click.IntRange(2),
    default=10,
    show_default=True,
    help="Runs in which a test must have passed before anything is said of it.",
)
@click.option("--apply", is_flag=True, help="Show a diff of profiles.yaml, then write it.")
@click.option("--format", "output_format", type=FORMATS, default="table", show_default=True)
def profiles_suggest(**options: Any) -> None:
    """The smallest profile that holds each test's history of 30 days with a margin, and what it saves.

    Memory: the highest peak and 15 % (25 % if it ever ran out of memory). Time: the p99 and half of it. CPUs: the
    p95. No attempt of the history would have been killed by what is suggested.
    """
    from orchestrator.commands.profiles import SuggestOptions
    from orchestrator.commands.profiles import profiles_suggest as command

    sys.exit(command(SuggestOptions(**options)))


@orch.group()
def runs() -> None:
    """The runs of the past."""


@runs.command("list")
@common
@click.option("--format", "output_format", type=FORMATS, default="table", show_default=True)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True)
def runs_list(**options: Any) -> None:
    """The latest runs."""
    from orchestrator.commands.runs import runs_list as command

    sys.exit(command(**options))


@runs.command("show")
@common
@click.argument("run_id", metavar="RUN", default="latest")
@click.option("--format", "output_format", type=FORMATS, default="table", show_default=True)
def runs_show(**options: Any) -> None:
    """One run: its tests, what they used, what they broke."""
    from orchestrator.commands.runs import runs_show as command

    sys.exit(command(**options))


@runs.command("diff")
@common
@click.argument("before")
@click.argument("after", default="latest")
@click.option("--format", "output_format", type=FORMATS, default="table", show_default=True)
def runs_diff(**options: Any) -> None:
    """What changed from one run to another."""
    from orchestrator.commands.runs import runs_diff as command

    sys.exit(command(**options))


@runs.command("export")
@common
@click.argument("run_id", metavar="RUN", default="latest")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Default: stdout.")
def runs_export(**options: Any) -> None:
    """All that is recorded of one run, as JSON."""
    from orchestrator.commands.runs import runs_export as command

    sys.exit(command(**options))


@runs.command("prune")
@common
@click.option("--dry-run", is_flag=True, help="Say what would go.")
def runs_prune(**options: Any) -> None:
    """Remove run folders and records that are older than the configured retention."""
    from orchestrator.commands.runs import runs_prune as command

    sys.exit(command(**options))


@orch.group()
def db() -> None:
    """The resource database."""


@db.command("path")
@common
def db_path(**options: Any) -> None:
    """Where it is."""
    from orchestrator.commands.db import db_path as command

    sys.exit(command(**options))


@db.command("info")
@common
@click.option("--format", "output_format", type=FORMATS, default="table", show_default=True)
def db_info(**options: Any) -> None:
    """How large it is, table by table, and from when to when it reaches."""
    from orchestrator.commands.db import db_info as command

    sys.exit(command(**options))


@db.command("vacuum")
@common
def db_vacuum(**options: Any) -> None:
    """Give back the room of what was deleted; needs as much free disk meanwhile as the database has."""
    from orchestrator.commands.db import db_vacuum as command

    sys.exit(command(**options))


@db.command("merge")
@common
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
def db_merge(**options: Any) -> None:
    """Bring all that other databases hold, such as those of shards, into this one.

    In any order and as often as you like: what is there already stays. No FILE is changed; one of an older
    orch is upgraded in a copy, one of a newer orch is refused.
    """
    from orchestrator.commands.db import db_merge as command

    sys.exit(command(**options))


@orch.command()
@common
@with_engine
@click.argument("target", metavar="RUN:TEST")
@click.option("--run", "run_it", is_flag=True, help="Run it once more, recorded nowhere, and compare.")
def repro(**options: Any) -> None:
    """The exact engine command that runs a recorded test again.

    RUN is an id, the beginning of one, or latest; TEST a test's id, or the end of one.
    """
    from orchestrator.commands.repro import repro as command

    sys.exit(command(**options))


@orch.command()
@common
@with_engine
@click.option(
    "--format", "output_format", type=click.Choice(["table", "json"]), default="table", show_default=True
)
def doctor(**options: Any) -> None:
    """Check engine, cgroups, limits, disk and images; each problem with its remedy."""
    from orchestrator.commands.doctor import doctor as command

    sys.exit(command(**options))


@orch.command("self-test")
@common
@with_engine
@click.option(
    "--profile", "profiles", multiple=True, metavar="NAME", help="This profile only; more than once for more."
)
@click.option(
    "--offline-base",
    is_flag=True,
    help="Where no registry answers, build on a Debian base made from this machine's package mirror.",
)
@click.option("-v", "--verbose", is_flag=True, help="A line for each check, and not for each group.")
@click.option(
    "--format", "output_format", type=click.Choice(["table", "json"]), default="table", show_default=True
)
def self_test(**options: Any) -> None:
    """Prove what a container of each profile keeps a test from, by trying it inside.

    Exit code 0: every check that applies is proven; 3: one is not; 36: the engine failed.
    """
    from orchestrator.commands.self_test import self_test as command

    sys.exit(command(**options))


@orch.command()
@common
@with_engine
@click.argument("names", nargs=-1, metavar="[IMAGE]...")
@click.option(
    "--offline-base",
    is_flag=True,
    help="Where no registry answers, build on a Debian base made from this machine's package mirror.",
)
@click.option("-q", "--quiet", is_flag=True, help="No build output.")
def build(**options: Any) -> None:
    """Build the images that profiles.yaml names, or some of them."""
    from orchestrator.commands.build import build as command

    sys.exit(command(**options))


@orch.command()
@with_engine
@click.option("--older-than", metavar="DURATION", help="Only what is older, e.g. 1h.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed.")
def clean(**options: Any) -> None:
    """Remove containers, volumes, networks, cgroups and folders of runs whose orch is dead."""
    from orchestrator.commands.clean import clean as command

    sys.exit(command(**options))


@orch.command()
@common
@with_engine
@click.option("--profile", default="intensive", show_default=True, metavar="NAME", help="Whose limits and image.")
@click.option("--offline-base", is_flag=True, hidden=True)
@click.argument("argv", nargs=-1, metavar="[COMMAND]...")
def shell(**options: Any) -> None:
    """An interactive shell (or COMMAND) in a profile's image, under its limits, with the project read-only."""
    from orchestrator.commands.shell import shell as command

    sys.exit(command(**options))


@orch.command()
@click.option("--force", is_flag=True, help="Overwrite.")
@click.argument("folder", type=click.Path(path_type=Path), default=Path())
def init(**options: Any) -> None:
    """Write a commented profiles.yaml that fits the project."""
    from orchestrator.commands.config import init as command

    sys.exit(command(**options))


@orch.command()
def schema() -> None:
    """The JSON Schema of profiles.yaml."""
    from orchestrator.commands.config import schema as command

    sys.exit(command())


@orch.command("show-config")
@common
@click.option("--origin", is_flag=True, help="Name the layer and place each value came from.")
@click.option(
    "--format", "output_format", type=click.Choice(["table", "json"]), default="table", show_default=True
)
def show_config(**options: Any) -> None:
    """The configuration in effect."""
    from orchestrator.commands.config import show_config as command

    sys.exit(command(**options))


@orch.command("help")
@click.argument("topic", required=False)
@click.pass_context
def help_(context: click.Context, topic: str | None) -> None:
    """Explain a command or a topic: filters, profiles, exit-codes, output, gates, environment."""
    from orchestrator.commands.help import help_topic as command

    sys.exit(command(context, topic))


@orch.command()
@click.argument("shell_name", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell_name: str) -> None:
    """Print the completion script of a shell."""
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell_name)
    if made is not None:
        click.echo(made(orch, {}, "orch", "_ORCH_COMPLETE").source())


def main(argv: Sequence[str] | None = None) -> None:
    """The `orch` program: the one place where errors become exit codes."""
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        orch.main(args=argv, prog_name="orch", standalone_mode=False)
    except click.exceptions.Exit as end:
        sys.exit(end.exit_code)
    except click.ClickException as error:
        error.show()
        _forget_reports(argv)
        sys.exit(ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except Interrupted as end:
        sys.exit(128 + end.signal_number)
    except OrchError as error:
        click.echo(f"orch: {error.message}", err=True)
        if error.remedy:
            click.echo(f"      {error.remedy}", err=True)
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001 - the last line of defence: a defect is told apart from everything else
        sys.exit(_report_process_limit(error) or _report_defect())
    finally:
        gc.freeze()  # the interpreter's end would look for cycles among all that is about to go with it


def _forget_reports(argv: Sequence[str] | None) -> None:
    """A report that a command line names which cannot be parsed is not of this invocation."""
    from orchestrator.coordinator.earlier_reports import remove_reports_named_in

    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["run"] or words[:1] == ["report"]:
        remove_reports_named_in(words)


def _report_process_limit(error: Exception) -> int | None:
    """The exit code where the error tells of a limit of this process: no defect."""
    from orchestrator.coordinator.process_limits import process_limit_error

    found = process_limit_error(error)
    if found is None:
        return None
    click.echo(f"orch: {found.message}\n      {found.remedy}", err=True)
    return found.exit_code


def _report_defect() -> int:
    import traceback

    click.echo(traceback.format_exc(), err=True, nl=False)
    click.echo("orch: this is a defect in orch itself (exit 37); please report it with the lines above", err=True)
    return ExitCode.DEFECT
