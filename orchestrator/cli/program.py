"""The group of all commands, and `main`: parse the command line, call one command, turn errors into exit codes.

Nothing but click is imported until a command is known, so that `orch --help` starts quickly.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import click

from orchestrator import __version__
from orchestrator.cli.configuration import init, profiles, schema, show_config
from orchestrator.cli.machine import build, clean, doctor, self_test
from orchestrator.cli.results import check, db, flaky, offenders, report, runs
from orchestrator.cli.running import list_, plan, repro, run, shell
from orchestrator.errors import ExitCode, Interrupted, OrchError

if TYPE_CHECKING:
    from collections.abc import Sequence

GC_THRESHOLDS = (50_000, 20, 50)
"""The thresholds of Python's cycle collector. With its own first threshold, 700 objects, the collector took 8 % of
the CPU time of a run of 1,000 tests, and nearly as much of the start. The memory of a run is the same.
"""
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Program(click.Group):
    """The group of all commands, listed by section in the help.

    A closed pipe at stdout ends the program as SIGPIPE would, as it ends other programs. click itself would exit
    with code 1, which means failed tests.
    """

    def invoke(self, context: click.Context) -> Any:
        """Run the command and flush stdout, while an error of it can still be reported."""
        try:
            try:
                return super().invoke(context)
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()
        except BrokenPipeError:
            # Python would report the error again when it flushes stdout at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise Interrupted(signal.SIGPIPE) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """Write the commands by section, each with the first sentence of its help."""
        width = max(len(str(name)) for name in self.commands)
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{one.name:<{width}}", one.get_short_help_str(80)) for one in commands])


@click.group(cls=Program, context_settings=CONTEXT, no_args_is_help=True)
@click.version_option(__version__, prog_name="orch")
def orch() -> None:
    """Run tests in containers with limits, and record what each test used.

    \b
      orch init                           write profiles.yaml for this project
      orch run                            run all tests, each under the profile that it is assigned
      orch run --profile fast test/unit   run the tests of a folder under one profile
      orch offenders                      show the tests that use most memory
      orch doctor                         check whether this machine can run tests
    """  # noqa: D301 - click reads the backspace, which a raw docstring would not contain


@click.command("help")
@click.argument("topic", required=False)
@click.pass_context
def help_(context: click.Context, topic: str | None) -> None:
    """Explain a command or a topic.

    Topics: filters, profiles, exit-codes, output, gates, environment.
    """
    from orchestrator.commands.help import help_topic as command

    sys.exit(command(context, topic))


@click.command()
@click.argument("shell_name", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell_name: str) -> None:
    """Print the completion script of a shell (bash, zsh, fish)."""
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell_name)
    if made is not None:
        click.echo(made(orch, {}, "orch", "_ORCH_COMPLETE").source())


SECTIONS: dict[str, tuple[click.Command, ...]] = {
    "Run tests": (run, list_, plan, repro, shell),
    "Results": (report, offenders, flaky, check, runs, db),
    "Configuration": (init, profiles, show_config, schema),
    "This machine": (doctor, self_test, build, clean),
    "Help": (help_, completion),
}
"""The sections of `orch --help` with their commands."""
for _commands in SECTIONS.values():
    for _command in _commands:
        orch.add_command(_command)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program `orch` with these arguments (default: those of the process), and exit.

    This is the only place where errors become exit codes.
    """
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
    except Exception as error:  # noqa: BLE001 - anything else is a defect, which has an exit code of its own
        sys.exit(_report_process_limit(error) or _report_defect())
    finally:
        gc.freeze()  # else the interpreter looks for cycles when it ends, among objects that end with it


def _forget_reports(argv: Sequence[str] | None) -> None:
    """Remove the report files of earlier runs that a command line names which cannot be parsed.

    Otherwise a CI job would take them for reports of this invocation.
    """
    from orchestrator.coordinator.earlier_reports import remove_reports_named_in

    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["run"] or words[:1] == ["report"]:
        remove_reports_named_in(words)


def _report_process_limit(error: Exception) -> int | None:
    """Print the error and return its exit code if a limit of this process caused it; otherwise return None."""
    from orchestrator.coordinator.process_limits import process_limit_error

    found = process_limit_error(error)
    if found is None:
        return None
    click.echo(f"orch: {found.message}\n      {found.remedy}", err=True)
    return found.exit_code


def _report_defect() -> int:
    """Print the traceback of the current exception, and return the exit code of a defect."""
    import traceback

    click.echo(traceback.format_exc(), err=True, nl=False)
    click.echo("orch: this is a defect in orch itself (exit 37); please report it with the lines above", err=True)
    return ExitCode.DEFECT
