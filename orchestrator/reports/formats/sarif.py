"""Broken budgets as SARIF 2.1.0, which code hosts and editors show beside the test's file.

Section numbers are those of the OASIS standard "Static Analysis Results Interchange Format (SARIF) Version 2.1.0".
Sizes are kept below what GitHub takes: 25,000 results a run and 10 MB compressed.
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
"""Linux's PATH_MAX: what is longer names no file."""

_ROOT = "PROJECTROOT"
_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTICE: "note"}
_FINGERPRINT = "orchViolation/v1"
"""Name and version of how fingerprints are made (3.5.4.2): another way needs another number."""


def sarif_text(groups: Sequence[ViolationGroup], *, project: str, left_out: int = 0) -> str:
    """The document as ASCII JSON with a newline; `left_out`: how many groups there are besides."""
    return to_json(sarif_document(groups, project=project, left_out=left_out)) + "\n"


def write_sarif(groups: Sequence[ViolationGroup], path: Path, *, project: str) -> None:
    """Written atomically. Raises OSError."""
    write_atomically(path, sarif_text(groups, project=project).encode("ascii"))


def sarif_document(groups: Sequence[ViolationGroup], *, project: str, left_out: int = 0) -> Document:
    """One run with a rule for each kind that occurs and a result for each group, gravest first."""
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
    # The list is gravest first: a rule's own level is that of its gravest result.
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
        text = f"{left_out} more results are left out; orch report --violations lists them"
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
    """Text in which nothing is a placeholder (3.11.5: braces are doubled) or a link (3.11.6: `[text](target)`)."""
    shown = one_line(text, MESSAGE_CHARACTERS).replace("](", "] (")
    return shown.replace("{", "{{").replace("}", "}}")


def _location(test: TestId) -> Document:
    """The test's file; a budget has no line, and hosts that need one get the first."""
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
    """A path below the project's root as a relative URI reference (RFC 3986); empty if it is no such path."""
    raw = _bytes(path)
    if len(raw) > _MAX_PATH_BYTES or not path or path.startswith("/") or ".." in path.split("/"):
        return ""
    return quote(raw, safe="/")  # the colon too: before the first slash it would make a scheme


def _bytes(text: str) -> bytes:
    """As the file system has it: names that are no UTF-8 come with lone surrogates."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def fingerprint(group: ViolationGroup) -> str:
    """The same in every run: made of the test, the kind and the ordinal, not of what was measured."""
    identity = [group.worst.test_id.path, group.worst.test_id.case, group.worst.violation.kind.value]
    text = json.dumps([*identity, group.ordinal])
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:32]
