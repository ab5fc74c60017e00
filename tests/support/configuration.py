"""Loads settings from text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.config.loader import load_config
from orchestrator.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.config.settings import Config


def load_text(folder: Path, text: str) -> Config | None:
    """Write `text` to profiles.yaml in the folder and return the configuration; None if it is refused."""
    (folder / "profiles.yaml").write_text(text, encoding="utf-8")
    try:
        return load_config(path=None, start=folder, env={})
    except ConfigError:
        return None
