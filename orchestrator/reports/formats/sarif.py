"""Violations as SARIF 2.1.0, which code hosts and editors show beside the test's file.

Section numbers are those of the OASIS standard "Static Analysis Results Interchange Format (SARIF) Version 2.1.0".
Sizes stay below GitHub's limits of 25,000 results for each run and 10 MB compressed.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from orchestrator import __version__
from orchestrator.files import write_atomically
from orchestrator.model.violations import Severity
from orchestrator.reports.formats.violation_help import rule_name, rule_text
from orchestrator.reports.json_encoding import to_json
from orchestrator.text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from orchestrator.model.tests import TestId
    from orchestrator.model.violation_groups import ViolationGroup

Document = dict[str, Any]

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
MAX_RESULTS = 5000
MESSAGE_CHARACTERS = 1000
NAME_CHARACTERS = 500
_MAX_PATH_BYTES = 4096
"""Linux's PATH_MAX. Longer paths cannot name a file."""

_ROOT = "PROJECTROOT"
_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTICE: "note"}
_FINGERPRINT = "orchViolation/v1"
"""Name and version of the fingerprints (3.5.4.2). If they are computed in another way, the number must change."""


def sarif_text(groups: Sequence[ViolationGroup], *, project: str, left_out: int = 0) -> str:
    """Return the document as ASCII JSON with a newline. `left_out`: number of groups that are not in `groups`."""
    return to_json(sarif_document(groups, project=project, left_out=left_out)) + "\n"


def write_sarif(groups: Sequence[ViolationGroup], path: Path, *, project: str) -> None:
    """Write the document atomically. Raises OSError."""
    write_atomically(path, sarif_text(groups, project=project).encode("ascii"))


def sarif_document(groups: Sequence[ViolationGroup], *, project: str, left_out: int = 0) -> Document:
    """Return a run with a rule for each kind that occurs and a result for each group, most severe first."""
    shown = groups[:MAX_RESULTS]
    kinds = sorted({group.worst.violation.kind.value for group in shown})
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": _driver(kinds, shown)},
                "automationDetails": {"id": f"orch/{quote(_bytes(one_line(project, 100)), safe='')}/"},
                "originalUriBaseIds": {_ROOT: {"description": {"text": "The project's root folder."}}},
                "columnKind": "unicodeCodePoints",
                "invocations": [_invocation(left_out + len(groups) - len(shown))],
                "results": [_result(group, kinds) for group in shown],
            }
        ],
    }


def _driver(kinds: Sequence[str], groups: Sequence[ViolationGroup]) -> Document:
    return {"name": "orch", "version": __version__, "rules": [_rule(kind, groups) for kind in kinds]}


def _rule(kind: str, groups: Sequence[ViolationGroup]) -> Document:
    text = rule_text(kind)
    # Groups are sorted by severity, so the first one of a kind has the level of the rule.
    level = next(t.worst.violation.severity for t in groups if t.worst.violation.kind.value == kind)
    return {
        "id": kind,
        "name": rule_name(kind),
        "shortDescription": {"text": text.meaning},
        "fullDescription": {"text": f"{text.meaning} {text.advice}"},
        "help": {"text": f"{text.meaning}\n\n{text.advice}", "markdown": f"{text.meaning}\n\n{text.advice}"},
        "defaultConfiguration": {"level": _LEVELS[level]},
        "properties": {"tags": ["test", "resources"], "precision": "very-high"},
    }


def _invocation(left_out: int) -> Document:
    found: Document = {"executionSuccessful": True}
    if left_out:
        text = f"{left_out} more results were omitted; orch report --violations lists them"
        found["toolExecutionNotifications"] = [{"level": "warning", "message": {"text": text}}]
    return found


def _result(group: ViolationGroup, kinds: Sequence[str]) -> Document:
    worst = group.worst
    kind = worst.violation.kind.value
    name = str(worst.test_id)
    return {
        "ruleId": kind,
        "ruleIndex": kinds.index(kind),
        "level": _LEVELS[worst.violation.severity],
        "message": {"text": plain_message(f"{one_line(name, NAME_CHARACTERS)}: {worst.violation.message}")},
        "locations": [_location(worst.test_id)],
        "partialFingerprints": {_FINGERPRINT: fingerprint(group)},
        "occurrenceCount": group.times,
        "properties": {
            "measured": worst.violation.measured,
            "limit": worst.violation.limit,
            "unit": worst.violation.unit,
            "profile": one_line(worst.profile, NAME_CHARACTERS),
            "outcome": worst.outcome,
            "run": worst.run_id,
        },
    }


def plain_message(text: str) -> str:
    """Return text without placeholders (3.11.5: braces are doubled) and links (3.11.6: `[text](target)`)."""
    shown = one_line(text, MESSAGE_CHARACTERS).replace("](", "] (")
    return shown.replace("{", "{{").replace("}", "}}")


def _location(test: TestId) -> Document:
    """Return the test's file as location. A violation has no line, but some hosts need one and get the first."""
    name = one_line(str(test), NAME_CHARACTERS) or "(no name)"
    location: Document = {"logicalLocations": [{"fullyQualifiedName": name, "kind": "module"}]}
    if test.case is not None:
        location["logicalLocations"][0]["kind"] = "function"
    uri = relative_uri(test.path)
    if uri:
        artifact = {"uri": uri, "uriBaseId": _ROOT}
        location["physicalLocation"] = {"artifactLocation": artifact, "region": {"startLine": 1}}
    return location


def relative_uri(path: str) -> str:
    """Return a path below the project's root as a relative URI reference (RFC 3986); empty for any other path."""
    raw = _bytes(path)
    if len(raw) > _MAX_PATH_BYTES or not path or path.startswith("/") or ".." in path.split("/"):
        return ""
    return quote(raw, safe="/")  # quotes colons too: before the first slash, one would end a scheme


def _bytes(text: str) -> bytes:
    """Return a name as bytes like the file system has it: undecodable bytes are lone surrogates in `text`."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def fingerprint(group: ViolationGroup) -> str:
    """Return the fingerprint of a group, made of test, kind and ordinal. It does not depend on measured values, so
    it is the same in every run.
    """
    identity = [group.worst.test_id.path, group.worst.test_id.case, group.worst.violation.kind.value]
    text = json.dumps([*identity, group.ordinal])
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:32]
