"""Jinja as the page uses it: everything is escaped, and a template is compiled once, not for each report."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from functools import cache
from importlib.util import cache_from_source
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING

import jinja2
from jinja2 import BytecodeCache, Environment, PackageLoader, StrictUndefined

from orchestrator.files import write_atomically
from orchestrator.reports.html.details import name_of
from orchestrator.text import (
    format_bytes,
    format_change,
    format_clock,
    format_ratio,
    format_seconds,
    one_line,
    plural,
)

if TYPE_CHECKING:
    from jinja2.bccache import Bucket

TEMPLATES = Path(__file__).parent / "templates"


class CompiledTemplates(BytecodeCache):
    """Compiled templates among the package's own bytecode, where Python has its own and by its rules: whoever can
    write there could as well change orch itself; where nothing can be written, nothing is kept.
    """

    def __init__(self, templates: Path) -> None:
        self._templates = templates

    def get_bucket(self, environment: Environment, name: str, filename: str | None, source: str) -> Bucket:
        """The place of a template, known by all that its code depends on; Jinja sees to Python's version."""
        of = environment
        options = (jinja2.__version__, of.autoescape, of.trim_blocks, of.lstrip_blocks, of.optimized)
        return super().get_bucket(environment, name, filename, f"{options}{source}")

    def load_bytecode(self, bucket: Bucket) -> None:
        """What was compiled before, if it is of the same source; a file that cannot be read is as good as none."""
        with suppress(OSError, EOFError, ValueError, UnpicklingError):
            bucket.load_bytecode(BytesIO(self._path(bucket).read_bytes()))

    def dump_bytecode(self, bucket: Bucket) -> None:
        """For the reports that follow."""
        if not sys.dont_write_bytecode:
            with suppress(OSError):
                write_atomically(self._path(bucket), bucket.bytecode_to_string())

    def _path(self, bucket: Bucket) -> Path:
        return Path(cache_from_source(str(self._templates / f"{bucket.key}.py"))).with_suffix(".jinja")


@cache
def environment() -> Environment:
    """With the filters that the templates use."""
    found = Environment(
        loader=PackageLoader("orchestrator.reports.html", TEMPLATES.name),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        optimized=False,  # of a template that is filled in once, it costs more than it saves
        bytecode_cache=CompiledTemplates(TEMPLATES),
    )
    found.filters.update(
        bytes=format_bytes,
        change=format_change,
        clock=format_clock,
        duration=format_seconds,
        ratio=format_ratio,
        line=one_line,
        plural=plural,
        name=name_of,
        words=lambda words: json.dumps(list(words)),
        minute=lambda moment: moment.strftime("%Y-%m-%d %H:%M"),
    )
    return found
