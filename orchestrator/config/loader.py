"""Find profiles.yaml and return the Config of all layers, or raise one ConfigError with all problems."""

from __future__ import annotations

import os
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from orchestrator.config.layers.build import build_config
from orchestrator.config.layers.resolve import resolve
from orchestrator.config.parsing.problems import Place
from orchestrator.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.config.settings import Config

MAX_FILE_BYTES = 1 << 20
FILE_NAME = "profiles.yaml"
_NOTHING: Mapping[str, str] = MappingProxyType({})


def load_config(
    *, path: Path | None, start: Path, env: Mapping[str, str], overrides: Mapping[str, str] = _NOTHING
) -> Config:
    """Return the configuration that applies in the folder `start`.

    `path` (or ORCH_CONFIG) names the file; else profiles.yaml is looked for from `start` upwards. `overrides`
    are dotted settings from the command line with the text the user gave, such as `{"run.jobs": "4"}`.
    Raises ConfigError: one line `file:line:column: message` for each problem.
    """
    start = start.resolve()
    if path is None and env.get("ORCH_CONFIG"):
        path = Path(env["ORCH_CONFIG"])
    path = find_file(start) if path is None else start / path
    root = find_root(start) if path is None else path.parent.resolve()
    file_name = None if path is None else _shown_name(path, start)
    settings = resolve(
        None if path is None or file_name is None else _text(path, file_name),
        file_name=file_name or "",
        env=env,
        overrides=overrides,
        root=root,
    )
    return build_config(
        settings,
        root=root,
        path=None if path is None else root / path.name,
        shorten={file_name: path.name} if path is not None and file_name is not None else {},
    )


def find_file(start: Path) -> Path | None:
    """Return the nearest profiles.yaml from `start` upwards, at most to the repository's root, or None."""
    for folder in (start, *start.parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
        if (folder / ".git").exists():
            return None
    return None


def find_root(start: Path) -> Path:
    """Return the nearest folder with .git from `start` upwards, or `start` if there is none."""
    return next((folder for folder in (start, *start.parents) if (folder / ".git").exists()), start)


def _shown_name(path: Path, start: Path) -> str:
    """Return the path relative to the user's folder if that is shorter than the absolute path."""
    relative = os.path.relpath(path, start)
    return relative if len(relative) < len(str(path)) else str(path)


def _data(path: Path, name: str) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{name}:1:1: this is not a regular file")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        message = f"{name}:1:1: cannot be read: {error.strerror}"
        raise ConfigError(message, remedy="`orch init` writes a profiles.yaml; --config names another") from error
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{name}:1:1: larger than {MAX_FILE_BYTES >> 20} MiB, too large for a profiles.yaml")
    return data


def _text(path: Path, name: str) -> str:
    data = _data(path, name)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig", "replace")
        place = Place(name, before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
        byte = data[error.start]
        raise ConfigError(
            f"{place}: the byte 0x{byte:02x} is not UTF-8", remedy="save the file as UTF-8"
        ) from error
