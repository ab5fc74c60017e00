"""Jinja environment of the page: autoescaping, and templates that are compiled once and not for each report."""

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
    """Cache of compiled templates beside the package's own bytecode and with Python's rules for it. Whoever can
    write there could also change orch itself. If the folder is read-only, nothing is cached.
    """

    def __init__(self, templates: Path) -> None:
        self._templates = templates

    def get_bucket(self, environment: Environment, name: str, filename: str | None, source: str) -> Bucket:
        """Return the bucket of a template. Its key includes everything that the compiled code depends on; Jinja
        adds the version of Python.
        """
        of = environment
        options = (jinja2.__version__, of.autoescape, of.trim_blocks, of.lstrip_blocks, of.optimized)
        return super().get_bucket(environment, name, filename, f"{options}{source}")

    def load_bytecode(self, bucket: Bucket) -> None:
        """Load compiled code of the same source. A file that cannot be read is ignored."""
        with suppress(OSError, EOFError, ValueError, UnpicklingError):
            bucket.load_bytecode(BytesIO(self._path(bucket).read_bytes()))

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Store compiled code for later reports."""
        if not sys.dont_write_bytecode:
            with suppress(OSError):
                write_atomically(self._path(bucket), bucket.bytecode_to_string())

    def _path(self, bucket: Bucket) -> Path:
        return Path(cache_from_source(str(self._templates / f"{bucket.key}.py"))).with_suffix(".jinja")


@cache
def environment() -> Environment:
    """Return the environment with the filters that the templates use."""
    found = Environment(
        loader=PackageLoader("orchestrator.reports.html", TEMPLATES.name),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        optimized=False,  # costs more than it saves for a template that is rendered once
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
