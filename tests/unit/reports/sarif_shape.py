"""The part of SARIF 2.1.0 that orch writes, as a JSON Schema stricter than the standard's own: nothing else may
appear. Written from the standard's text (sections 3.13, 3.14, 3.19, 3.27, 3.49); documents were also checked by
hand against the schema that OASIS publishes, which no package that we depend on has.
"""

from __future__ import annotations

from typing import Any


def an_object(required: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": required.split(),
        "additionalProperties": False,
        "properties": properties,
    }


def a_list(items: Any, least: int = 0, most: int | None = None) -> dict[str, Any]:
    bound = {} if most is None else {"maxItems": most}
    return {"type": "array", "items": items, "minItems": least, **bound}


TEXT = {"type": "string", "minLength": 1, "maxLength": 4000}
LEVEL = {"enum": ["none", "note", "warning", "error"]}
MESSAGE = an_object("text", text=TEXT)
HELP = an_object("text markdown", text=TEXT, markdown=TEXT)
URI = {"type": "string", "pattern": r"^(?!/)([A-Za-z0-9._~/-]|%[0-9A-F]{2})+$", "maxLength": 3 * 4096}
ARTIFACT = an_object("uri uriBaseId", uri=URI, uriBaseId={"const": "PROJECTROOT"})
PHYSICAL = an_object(
    "artifactLocation region",
    artifactLocation=ARTIFACT,
    region=an_object("startLine", startLine={"type": "integer", "minimum": 1}),
)
LOGICAL = an_object("fullyQualifiedName kind", fullyQualifiedName=TEXT, kind={"enum": ["module", "function"]})
LOCATION = an_object("logicalLocations", physicalLocation=PHYSICAL, logicalLocations=a_list(LOGICAL, 1, 1))
RULE = an_object(
    "id name shortDescription fullDescription help defaultConfiguration",
    id={"type": "string", "pattern": "^[a-z]+(-[a-z]+)*$"},
    name={"type": "string", "pattern": "^[A-Z][A-Za-z]+$"},
    shortDescription=MESSAGE,
    fullDescription=MESSAGE,
    help=HELP,
    defaultConfiguration=an_object("level", level=LEVEL),
    properties=an_object("tags precision", tags=a_list(TEXT, 1), precision={"enum": ["very-high"]}),
)
RESULT = an_object(
    "ruleId ruleIndex level message locations partialFingerprints occurrenceCount",
    ruleId=TEXT,
    ruleIndex={"type": "integer", "minimum": 0},
    level=LEVEL,
    message=MESSAGE,
    locations=a_list(LOCATION, 1, 1),
    partialFingerprints={
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    },
    occurrenceCount={"type": "integer", "minimum": 1},
    properties={"type": "object"},
)
NOTIFICATION = an_object("level message", level=LEVEL, message=MESSAGE)
RUN = an_object(
    "tool results",
    tool=an_object(
        "driver",
        driver=an_object("name version rules", name={"const": "orch"}, version=TEXT, rules=a_list(RULE)),
    ),
    automationDetails=an_object("id", id={"type": "string", "pattern": "^orch/[A-Za-z0-9._~%-]*/$"}),
    originalUriBaseIds=an_object("PROJECTROOT", PROJECTROOT=an_object("description", description=MESSAGE)),
    columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
    invocations=a_list(
        an_object(
            "executionSuccessful",
            executionSuccessful={"type": "boolean"},
            toolExecutionNotifications=a_list(NOTIFICATION, 1),
        ),
        1,
        1,
    ),
    results=a_list(RESULT, 0, 25_000),
)
LOG = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    **an_object(
        "$schema version runs",
        **{"$schema": {"const": "https://json.schemastore.org/sarif-2.1.0.json"}},
        version={"const": "2.1.0"},
        runs=a_list(RUN, 1, 1),
    ),
}
