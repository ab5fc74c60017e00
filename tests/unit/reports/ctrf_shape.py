"""What a CTRF document of ours may hold, written from the format's specification: no key that it does not know."""

STATUS = {"enum": ["passed", "failed", "skipped", "pending", "other"]}
COUNT = {"type": "integer", "minimum": 0}
NAME = {"type": "string", "minLength": 1}
LINES = {"type": "array", "items": {"type": "string"}}


def closed(required, **properties):
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


TIMES = {"duration": COUNT, "start": COUNT, "stop": COUNT}
TOLD = {"message": {"type": "string"}, "trace": {"type": "string"}, "stdout": LINES, "stderr": LINES}
RETRY = closed(
    ["attempt", "status"], attempt={"type": "integer", "minimum": 1}, status=STATUS, extra={}, **TIMES, **TOLD
)
TEST = closed(
    ["name", "status", "duration"],
    name=NAME,
    status=STATUS,
    suite={"type": "array", "minItems": 1, "items": {"type": "string"}},
    rawStatus={"type": "string"},
    filePath={"type": "string"},
    retries=COUNT,
    retryAttempts={"type": "array", "items": RETRY},
    flaky={"type": "boolean"},
    tags=LINES,
    steps={"type": "array", "items": closed(["name", "status"], name={"type": "string"}, status=STATUS)},
    extra={"type": "object"},
    **TIMES,
    **TOLD,
)
COUNTS = dict.fromkeys(("tests", *STATUS["enum"], "flaky", "suites", "start", "stop", "duration"), COUNT)
SUMMARY = closed(["tests", *STATUS["enum"], "start", "stop"], extra={"type": "object"}, **COUNTS)
RESULTS = closed(
    ["tool", "summary", "tests"],
    tool=closed(["name"], name=NAME, version={"type": "string"}),
    summary=SUMMARY,
    tests={"type": "array", "items": TEST},
    environment=closed(
        [], **{key: {"type": "string"} for key in ("appName", "commit", "branchName", "osPlatform", "osRelease")}
    ),
)
DOCUMENT = closed(
    ["results", "reportFormat", "specVersion"],
    reportFormat={"const": "CTRF"},
    specVersion={"type": "string", "pattern": r"^[0-9]+\.[0-9]+\.[0-9]+$"},
    reportId={"type": "string", "format": "uuid"},
    timestamp={"type": "string", "format": "date-time"},
    generatedBy={"type": "string"},
    results=RESULTS,
)
