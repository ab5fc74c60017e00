"""Options that several commands share, so that each has one name, one help text and one default."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.types import OptionHelpExtra

    Function = Callable[..., Any]
    Decorator = Callable[[Function], Function]

PATH = click.Path(path_type=Path)
TABLES = ("table", "json", "csv", "markdown")
"""The output formats of commands that print tables."""
SELECTION = "Selection"
EXECUTION = "Execution"
OUTPUT = "Output"
FILES = "Report files"
OTHERS = "Other options"


class Option(click.Option):
    """An option with the heading below which the help of its command lists it."""

    def __init__(self, *args: Any, heading: str = OTHERS, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.heading = heading

    def get_help_extra(self, ctx: click.Context) -> OptionHelpExtra:
        """Return what the help shows in brackets; a default that is described in words has no parentheses."""
        extra = super().get_help_extra(ctx)
        if isinstance(self.show_default, str):
            extra["default"] = self.show_default
        return extra


class Command(click.Command):
    """A command with so many options that its help lists them below several headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options by heading, in the order of each heading's first option."""
        by_heading: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                heading = parameter.heading if isinstance(parameter, Option) else OTHERS
                by_heading.setdefault(heading, []).append(record)
        for heading, records in by_heading.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def option(*names: str, **attributes: Any) -> Decorator:
    """Return an option as `click.option` does; `heading` places it in the help of a `Command`."""
    return click.option(*names, cls=Option, **attributes)


def in_order(*decorators: Decorator) -> Decorator:
    """Combine decorators of click. The help lists their options in the same order."""

    def decorate(command: Function) -> Function:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def setting(name: str, built_in: str) -> str:
    """Return the default that the help shows for an option that overrides a setting of profiles.yaml."""
    return f"{name} of profiles.yaml, else {built_in}"


def file_option(name: str, help_text: str, **attributes: Any) -> Decorator:
    """Return an option that takes the path of a file."""
    return option(name, metavar="FILE", type=PATH, help=help_text, **attributes)


def format_option(*formats: str, note: str = "", **attributes: Any) -> Decorator:
    """Return the option `--format`. The first format is the default; `note` explains special formats."""
    return option(
        "--format",
        "output_format",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help=f"Output format. {note}".rstrip(),
        **attributes,
    )


def limit_option(default: int, rows: str = "tests") -> Decorator:
    """Return the option `--limit`, the largest number of rows that are printed."""
    text = f"Print at most N {rows}."
    return option("--limit", metavar="N", type=click.IntRange(1), default=default, show_default=True, help=text)


def since_option(**attributes: Any) -> Decorator:
    """Return the option `--since`; `attributes` give its default."""
    return option(
        "--since", metavar="WHEN", help="Start of the window: 24h, 7d, 2w, all, or a date.", **attributes
    )


until_option = option(
    "--until", metavar="WHEN", show_default="now", help="End of the window, in the formats of --since."
)

config_options = in_order(
    option(
        "--config",
        "config_path",
        metavar="FILE",
        type=PATH,
        show_default="profiles.yaml in this folder or the nearest one above",
        help="Configuration file.",
    ),
    option(
        "--db",
        "database",
        metavar="URL",
        show_default=setting("database", ".orch/resources.db"),
        help="Resource database: the path of a file (.db), or an SQLAlchemy URL.",
    ),
)
"""The options of every command that reads the configuration."""

engine_option = option(
    "--engine",
    "engine_url",
    metavar="URL",
    show_default="DOCKER_HOST, the current context, the usual sockets",
    help="Address of the container engine.",
)
"""The option of every command that uses the container engine."""

offline_base_option = option(
    "--offline-base",
    is_flag=True,
    heading=EXECUTION,
    help="If no registry can be reached, build on a Debian base made from this machine's package mirror.",
)

selection = in_order(
    click.argument("paths", nargs=-1),
    option(
        "-E",
        "--filter",
        "filter_text",
        metavar="EXPR",
        heading=SELECTION,
        help="Select by an expression, such as 'test(parse) and not profile(slow)': see orch help filters.",
    ),
    option(
        "-R",
        "--rerun",
        metavar="RUN",
        heading=SELECTION,
        help="Select the tests that did not pass in RUN (an id, or latest).",
    ),
    option(
        "--only-profile",
        metavar="NAME",
        heading=SELECTION,
        help="Select the tests that are assigned this profile.",
    ),
    option(
        "--shard",
        metavar="M/N|auto",
        heading=SELECTION,
        help="Select the M-th of N parts. auto: the numbers that GitHub, GitLab or Buildkite give to this job.",
    ),
    option(
        "--shard-by",
        type=click.Choice(["time", "memory", "hash"]),
        default="hash",
        show_default=True,
        heading=SELECTION,
        help="How the parts are balanced. time and memory need the same history on all shards.",
    ),
    option(
        "--no-tests",
        type=click.Choice(["pass", "warn", "fail"]),
        show_default=setting("run.no_tests", "fail"),
        heading=SELECTION,
        help="What an empty selection means. fail: exit code 4.",
    ),
    option(
        "--strict-selection",
        is_flag=True,
        heading=SELECTION,
        help="Exit with code 4 if a test that was found cannot run, instead of leaving it out with a notice.",
    ),
    option("--profile", metavar="NAME", heading=EXECUTION, help="Run every selected test under this profile."),
    option(
        "-j",
        "--jobs",
        metavar="N",
        show_default=setting("run.jobs", "auto"),
        heading=EXECUTION,
        help="Run at most N tests at once. auto: as many as fit the machine.",
    ),
    option(
        "--retries",
        metavar="N",
        type=click.IntRange(0),
        show_default=setting("run.retries", "0"),
        heading=EXECUTION,
        help="Run a failed test again up to N times. A test that passes then is flaky.",
    ),
    option(
        "--repeat",
        metavar="N",
        type=click.IntRange(1),
        show_default="1",
        heading=EXECUTION,
        help="Run each test N times.",
    ),
    option(
        "--strict-limits",
        is_flag=True,
        default=None,
        heading=EXECUTION,
        help="Refuse a profile that is larger than this host, instead of lowering its limits.",
    ),
)
"""The argument and the options of run, plan and list: which tests, and how they run."""
