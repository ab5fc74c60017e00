"""The JSON Schema of profiles.yaml, generated from the models that validate it, for editors and CI."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from orchestrator.config.schema.document import Document

_SECTIONS_THAT_MAY_BE_EMPTY = ("profiles", "rules", "suites", "images", "run", "retention", "presets")


def json_schema() -> dict[str, Any]:
    """A JSON Schema (draft 2020-12) as plain data."""
    schema = Document.model_json_schema()
    schema = {"$schema": GenerateJsonSchema.schema_dialect, **_without_defaults(schema)}
    schema["title"] = "orch: profiles.yaml"
    for name in _SECTIONS_THAT_MAY_BE_EMPTY:
        own = schema["properties"][name]
        description = own.pop("description", "")
        schema["properties"][name] = {"description": description, "anyOf": [own, {"type": "null"}]}
    return schema


def _without_defaults(value: Any) -> Any:
    """Models are one layer: their defaults are not the ones that hold in the end."""
    if isinstance(value, dict):
        cleaned = {key: _without_defaults(item) for key, item in value.items() if key not in ("default", "title")}
        if "patternProperties" in cleaned:
            cleaned["additionalProperties"] = False
        return _nullable_removed(cleaned)
    return [_without_defaults(item) for item in value] if isinstance(value, list) else value


def _nullable_removed(schema: dict[str, Any]) -> dict[str, Any]:
    """`X | None` means that a key may be absent; a null that is written is refused."""
    options = schema.get("anyOf")
    if isinstance(options, list) and {"type": "null"} in options:
        rest = [option for option in options if option != {"type": "null"}]
        schema = {key: item for key, item in schema.items() if key != "anyOf"}
        return {**rest[0], **schema} if len(rest) == 1 else {**schema, "anyOf": rest}
    return schema
