"""Reads all layers of settings, merges and checks them, or reports all that is wrong with them in one error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.config.layers.checks import check
from orchestrator.config.layers.merge import merge
from orchestrator.config.layers.sources import read_sources
from orchestrator.config.parsing.problems import raise_if_any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from orchestrator.config.settings import Settings


def resolve(
    text: str | None, *, file_name: str, env: Mapping[str, str], overrides: Mapping[str, str], root: Path
) -> Settings:
    """Return the settings of all layers, merged and checked.

    `text` is the file's text or None; messages call the file `file_name`.

    Raises ConfigError with all problems.
    """
    sources, problems = read_sources(text, file_name=file_name, env=env, overrides=overrides)
    settings, found = merge(sources)
    raise_if_any([*problems, *found, *check(sources, settings, root)])
    return settings
