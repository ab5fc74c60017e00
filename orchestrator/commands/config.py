"""`orch init`, `schema` and `show-config`: commands on the configuration, which need no engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.coordinator.console import say, show
from orchestrator.coordinator.session import load_with_database
from orchestrator.errors import ExitCode, UsageError
from orchestrator.reports.json_encoding import to_json
from orchestrator.reports.tables.table import Column, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


FILE_NAME = "profiles.yaml"


def init(*, folder: Path, force: bool) -> int:
    """Write profiles.yaml into a folder."""
    from orchestrator.config.writing.template import template

    path = folder / FILE_NAME
    text = template(folder.resolve())
    if path.exists() and not force:
        raise UsageError(f"{path} exists already", remedy="orch init --force overwrites it")
    path.write_text(text, encoding="utf-8")
    say(f"wrote {path}; next: orch plan shows which tests would run, orch run runs them")
    return ExitCode.OK


def schema() -> int:
    """Print the JSON Schema of profiles.yaml."""
    from orchestrator.config.schema.json_schema import json_schema

    say(to_json(json_schema()))
    return ExitCode.OK


def show_config(*, config_path: Path | None, database: str | None, origin: bool, output_format: str) -> int:
    """Print every setting in effect; with `origin`, also the layer and the place that set it."""
    config = load_with_database(config_path, database)
    settings = dict(_settings(config))
    if output_format == "json":
        document: dict[str, Any] = {"schema": 1, "settings": settings}
        if origin:
            document["origins"] = {name: str(o) for name, o in sorted(config.origins.items())}
        say(to_json(document))
        return ExitCode.OK
    say(f"project  {config.project_root}")
    say(f"file     {config.path or 'none: built-in defaults'}")
    columns = [Column(key="setting", title="setting"), Column(key="value", title="value")]
    if origin:
        columns.append(Column(key="origin", title="from"))
    rows = []
    for name, value in settings.items():
        row = [name, "" if value is None else str(value)]
        if origin:
            row.append(_origin(name, config.origins))
        rows.append(tuple(row))
    show(Table(name="settings", columns=tuple(columns), rows=tuple(rows)), "table")
    return ExitCode.OK


def _origin(name: str, origins: Mapping[str, object]) -> str:
    """Return the origin of a setting or of the nearest enclosing setting that has one; else `built-in default`."""
    while name:
        if name in origins:
            return str(origins[name])
        name = name.rpartition(".")[0]
    return "built-in default"


def _settings(config: Any) -> Iterator[tuple[str, object]]:
    """Yield the dotted name and the value of each setting, under the names that profiles.yaml uses."""
    from orchestrator.config.writing.setting_texts import setting_texts

    yield from setting_texts(config).items()
