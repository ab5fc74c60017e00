"""Merged settings of earlier calls, in the user's cache folder: reading YAML and building pydantic's models takes
0.16 s of CPU where a small command needs 0.23 (docs/design/config/settings-cache.md).

What can hold a secret is never kept: `config.loader` says what that is.

An entry is found by all that its settings were made of: the file's bytes, variables, flags, and orch's own code.
It is JSON, and only believed from a folder and a file that are this user's alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from orchestrator import __version__
from orchestrator.config.parsing.problems import Place
from orchestrator.config.settings import Layer, Merged, Setting
from orchestrator.files import cache_folder, replace_file
from orchestrator.model import results

if TYPE_CHECKING:
    from collections.abc import Mapping

KEPT = 32
"""Entries; the oldest go."""
_PREFIX = "orch-settings-"
_EARLIER_PREFIX = "orch-config-"
"""Entries of an orch that kept values of `env:` too."""


def key_of(
    path: Path | None, data: bytes, shown: str, env: Mapping[str, str], overrides: Mapping[str, str]
) -> str:
    """Names what settings are made of. `shown`: the file's name in messages."""
    parts = (
        __version__,
        sys.version,
        _code(),
        str(path),
        shown,
        hashlib.sha256(data).hexdigest(),
        sorted((name, value) for name, value in env.items() if name.startswith("ORCH_")),
        sorted(overrides.items()),
    )
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]


def _code() -> list[tuple[str, int, int]]:
    """What reads settings, should it be changed without a new version: as when orch is developed."""
    files = [Path(results.__file__ or ""), *Path(__file__).parent.rglob("*.py")]
    return sorted((file.name, (found := file.stat()).st_size, found.st_mtime_ns) for file in files)


def recall(key: str) -> Merged | None:
    """The settings of this key. None: not known, or not to be believed."""
    try:
        path = _folder() / f"{_PREFIX}{key}.json"
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid() or status.st_mode & 0o022 or not stat.S_ISREG(status.st_mode):
                return None
            found = json.load(file)
        return _merged(found)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError):  # RuntimeError: the user has no home
        return None


def remember(key: str, merged: Merged) -> None:
    """Keep the settings, where that is possible."""
    settings = {
        name: [_plain(s.value), s.layer.value, s.place.source, s.place.line, s.place.column, s.owner]
        for name, s in merged.settings.items()
    }
    document = {
        "settings": settings,
        "rule_places": [list(asdict(place).values()) for place in merged.rule_places],
        "digest": merged.digest,
    }
    with suppress(OSError, RuntimeError):
        folder = _folder(make=True)
        replace_file(folder / f"{_PREFIX}{key}.json", json.dumps(document).encode(), mode=0o600)
        _forget_oldest(folder)


def _folder(*, make: bool = False) -> Path:
    """Of this user, and nobody else's to write to; else OSError."""
    folder = cache_folder()
    if make:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = folder.stat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise PermissionError(f"{folder} is not this user's alone")
    return folder


def forget_earlier_kind() -> None:
    """Remove the entries that an earlier orch has left: there may be secrets in them."""
    with suppress(OSError, RuntimeError):
        for path in _folder().glob(f"{_EARLIER_PREFIX}*.json"):
            path.unlink(missing_ok=True)


def _forget_oldest(folder: Path) -> None:
    entries = sorted(folder.glob(f"{_PREFIX}*.json"), key=lambda path: path.stat().st_mtime_ns)
    for path in entries[:-KEPT]:
        path.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    """JSON of a setting's value; a list is a tuple, what has keys says what it is."""
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {"keys": {key: _plain(item) for key, item in value.items()}}
    if value is None or isinstance(value, str | int | float):
        return value
    return {"part": {name: _plain(getattr(value, name)) for name in type(value).model_fields}}


def _value(plain: Any) -> Any:
    if isinstance(plain, list):
        return tuple(_value(item) for item in plain)
    if isinstance(plain, dict):
        if "keys" in plain:
            return {key: _value(item) for key, item in plain["keys"].items()}
        return SimpleNamespace(**{name: _value(item) for name, item in plain["part"].items()})
    return plain


def _merged(found: Mapping[str, Any]) -> Merged:
    return Merged(
        settings={
            name: Setting(_value(value), Layer(layer), Place(source, line, column), owner)
            for name, (value, layer, source, line, column, owner) in found["settings"].items()
        },
        rule_places=tuple(Place(*place) for place in found["rule_places"]),
        digest=found["digest"],
    )
