"""The JSON Schema of profiles.yaml, for editors and CI, generated from the types that validate the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.config.schema.document import Document

if TYPE_CHECKING:
    from orchestrator.config.schema.parts import JsonSchema


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) as plain data."""
    definitions: JsonSchema = {}
    document = Document.schema(definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "orch: profiles.yaml",
        **document,
        "$defs": dict(sorted(definitions.items())),
    }
