"""`orch build`: build the images that profiles.yaml names. Tags come from the content; IDs pin the images."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from orchestrator.coordinator.console import say
from orchestrator.coordinator.environment import ensure_images_of
from orchestrator.coordinator.session import load_with_database
from orchestrator.engine.docker.engine import open_engine
from orchestrator.engine.images.build_context import context_report
from orchestrator.errors import ExitCode, UsageError
from orchestrator.text import format_bytes, format_seconds

if TYPE_CHECKING:
    from pathlib import Path


def build(
    *,
    names: tuple[str, ...],
    offline_base: bool,
    quiet: bool,
    config_path: Path | None,
    database: str | None,
    engine_url: str | None,
) -> int:
    """Build the images that are missing; print the context, ID, size and build time of each image."""
    config = load_with_database(config_path, database)
    unknown = [name for name in names if name not in config.images]
    if unknown:
        known = ", ".join(config.images)
        raise UsageError(f"no image is called {unknown[0]!r}", remedy=f"images of the configuration: {known}")
    engine = open_engine(engine_url)
    for name, spec in config.images.items():
        if names and name not in names:
            continue
        if spec.dockerfile is not None:
            context = context_report(spec)
            say(
                f"{name}: context {format_bytes(context.bytes_with_ignore)} in {len(context.files)} files"
                f" (without .dockerignore {format_bytes(context.bytes_without_ignore)}"
                f" in {context.files_without_ignore})"
            )
        began = time.monotonic()
        ids = ensure_images_of(
            config, [name], engine, offline_base=offline_base, on_line=_quiet if quiet else _line
        )
        seconds = time.monotonic() - began
        size = format_bytes(engine.image_bytes(ids[name]))
        say(f"{name}: {ids[name]} {size}, {format_seconds(seconds)}")
    return ExitCode.OK


def _line(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def _quiet(_text: str) -> None:
    return
