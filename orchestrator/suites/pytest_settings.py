"""Read from pytest's own configuration which files are tests, without starting pytest.

https://docs.pytest.org/en/stable/reference/customize.html has the files and their order.
"""

from __future__ import annotations

import configparser
import fnmatch
import shlex
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_INI = {"pytest.ini": "pytest", ".pytest.ini": "pytest", "tox.ini": "pytest", "setup.cfg": "tool:pytest"}
_ORDER = (
    "pytest.toml",
    ".pytest.toml",
    "pytest.ini",
    ".pytest.ini",
    "pyproject.toml",
    "tox.ini",
    "setup.cfg",
)
_NOT_ENTERED = ("*.egg", ".*", "_darcs", "build", "CVS", "dist", "node_modules", "venv", "{arch}")
"""The default of pytest's `norecursedirs`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PytestFiles:
    """The files that pytest without arguments collects, according to a configuration file."""

    config: str
    """The name of the configuration file."""
    patterns: tuple[str, ...]
    folders: tuple[str, ...]
    """The folders that are searched, relative to the root; empty: everywhere."""
    not_entered: tuple[str, ...]

    def collects(self, path: str, *, everywhere: bool) -> bool:
        """Return whether pytest would collect this file (relative to the root). `everywhere`: a folder was named,
        so that `testpaths` does not apply.
        """
        *parents, name = path.split("/")
        if not name.endswith(".py") or not any(_matches(path, name, pattern) for pattern in self.patterns):
            return False
        if any(fnmatch.fnmatchcase(part, pattern) for part in parents for pattern in self.not_entered):
            return False
        return everywhere or not self.folders or any(_below(path, folder) for folder in self.folders)


def pytest_files(folder: Path) -> PytestFiles | None:
    """Return what the configuration in `folder` sets; None if it has no `python_files` or cannot be read."""
    for name in _ORDER:
        settings = _settings(folder / name)
        if settings is not None:
            patterns = _words(settings.get("python_files"))
            if not patterns:
                return None
            return PytestFiles(
                config=name,
                patterns=patterns,
                folders=tuple(word.rstrip("/") for word in _words(settings.get("testpaths"))),
                not_entered=_words(settings.get("norecursedirs")) or _NOT_ENTERED,
            )
    return None


def _matches(path: str, name: str, pattern: str) -> bool:
    if "/" not in pattern:
        return fnmatch.fnmatchcase(name, pattern)
    return fnmatch.fnmatchcase(f"/{path}", f"*/{pattern.removeprefix('./')}")


def _below(path: str, folder: str) -> bool:
    folder = folder.removeprefix("./")
    return folder in {"", "."} or fnmatch.fnmatchcase(path, f"{folder}/*")


def _settings(path: Path) -> Mapping[str, object] | None:
    """Return pytest's section of a configuration file; None if it has none."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        if path.suffix == ".toml":
            return _of_toml(path.name, tomllib.loads(text))
        parser = configparser.ConfigParser(interpolation=None, strict=False, allow_no_value=True)
        parser.read_string(text)
    except (OSError, ValueError, configparser.Error):
        return None
    section = _INI[path.name]
    if parser.has_section(section):
        return dict(parser.items(section))
    return {} if "pytest.ini" in path.name else None  # such a file is used even without the section


def _of_toml(name: str, document: Mapping[str, object]) -> Mapping[str, object] | None:
    if name != "pyproject.toml":
        section = document.get("pytest", {})
        return section if isinstance(section, dict) else {}
    tool = document.get("tool")
    pytest = tool.get("pytest") if isinstance(tool, dict) else None
    if not isinstance(pytest, dict):
        return None
    options = pytest.get("ini_options")
    return options if isinstance(options, dict) else pytest


def _words(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        try:
            return tuple(shlex.split(value, comments=True))
        except ValueError:
            return tuple(value.split())
    if isinstance(value, list):
        items: Sequence[object] = value
        return tuple(item for item in items if isinstance(item, str))
    return ()
