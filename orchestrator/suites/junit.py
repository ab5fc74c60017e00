"""Read cases from a JUnit file that a hostile test may have written.

Files of more than 32 MiB or with millions of elements or attributes are refused, because a tree in memory takes
ten times the size of its text; so is any DOCTYPE, before parsing (because of entities), and a root that is not
JUnit. Characters that XML forbids are replaced, because several writers, junitparser among them, do not escape
them. Cases are found by a walk of our own: junitparser's iteration loses those at the root and fails on deep
nesting.
"""

from __future__ import annotations

import codecs
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import junitparser

from orchestrator.model.outcomes import CaseOutcome, CaseResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

JUNIT_BYTES = 32 << 20
MAX_CASES = 100_000
MESSAGE_CHARS = 4_000
NAME_CHARS = 1_000
_MAX_TAGS = 2_000_000
_MAX_ATTRIBUTES = 1_000_000
_MAX_REFERENCES = 2_000_000
_MAX_SECONDS = 1e9
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_REFERENCE = re.compile(r"&#(?:x([0-9a-fA-F]{1,8})|([0-9]{1,9})|x?[0-9a-fA-F]{9,});")
_ATTRIBUTE = re.compile(r"=\s*[\"']")
_SIGNATURES = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
    (b"<\0\0\0", "utf-32-le"),
    (b"\0\0\0<", "utf-32-be"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)
_DECLARATION = re.compile(rb"""\s*<\?xml\s[^>]{0,200}?\sencoding\s*=\s*["']([A-Za-z][A-Za-z0-9._-]{0,40})["']""")
_KNOWN_ENCODING = re.compile(
    "utf-8|iso8859-\\d+|cp\\d+|koi8-[rut]|mac-roman|big5|gbk|gb2312|gb18030|euc_(jp|kr)|shift_jis|iso2022_(jp|kr)"
)
"""Python's names of the text encodings in which an XML declaration has the same bytes as in ASCII."""
_BY_STATUS = {
    **dict.fromkeys(("notrun", "disabled", "skipped", "ignored"), CaseOutcome.SKIPPED),
    **dict.fromkeys(("fail", "failed"), CaseOutcome.FAILED),
}
"""The outcome for each value of the `status` attribute, for a case without an element that states one."""
_EXPECTED_FAILURE = frozenset({"pytest.xfail", "xfail"})
"""The types of `<skipped>` that pytest and unittest-xml-reporting write for an expected failure."""
_LEAVES = frozenset({"properties", "system-out", "system-err"})


class ResultsError(Exception):
    """The results cannot be read or trusted; the message gives the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The contents of a JUnit file."""

    cases: tuple[CaseResult, ...]
    total: int
    """The number of cases found, including those that were not kept."""
    suite_names: frozenset[str]
    missing: int
    """The number of cases that the suites' own counts announce but that are not listed."""


def read_junit(data: bytes, case_name: Callable[[str, str], str]) -> Report:
    """Parse a JUnit file; `case_name(classname, name)` returns the name of a case. Raises ResultsError."""
    root = _parse(data)
    cases: list[CaseResult] = []
    total = 0
    for element, suite in _walk(root):
        total += 1
        if total <= MAX_CASES:
            cases.append(_case(element, suite, case_name))
    suites = list(root.iter("testsuite"))
    return Report(
        cases=tuple(cases),
        total=total,
        suite_names=frozenset(suite.get("name", "") for suite in suites),
        missing=sum(_missing(suite) for suite in suites),
    )


def short_name(name: str) -> str:
    """Return the name cut to at most NAME_CHARS characters; a digest distinguishes two long names."""
    if len(name) <= NAME_CHARS:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:12]
    return f"{name[: NAME_CHARS - 16]}… #{digest}"


def short_message(message: str) -> str:
    """Return the message cut to at most MESSAGE_CHARS characters."""
    return message if len(message) <= MESSAGE_CHARS else f"{message[: MESSAGE_CHARS - 2]} …"


def clean(text: str) -> str:
    """Return the text with each character that XML 1.0 forbids replaced by U+FFFD."""
    return _ILLEGAL.sub("\ufffd", text)


def _parse(data: bytes) -> ET.Element:
    if len(data) > JUNIT_BYTES:
        raise ResultsError(f"the JUnit file is larger than {JUNIT_BYTES >> 20} MiB")
    text = clean(_decoded(data))
    references = text.count("&#")
    if references > _MAX_REFERENCES:
        raise ResultsError("the JUnit file has millions of character references")
    if references:
        text = _REFERENCE.sub(_legal_reference, text)
    body = text[_prolog_end(text) :]  # without the declaration, whose encoding does not apply to decoded text
    if body.count("<") > _MAX_TAGS or sum(1 for _ in _ATTRIBUTE.finditer(body)) > _MAX_ATTRIBUTES:
        raise ResultsError("the JUnit file has millions of elements or attributes")
    try:
        root = ET.fromstring(body)  # noqa: S314 - size, elements and DOCTYPE were checked above
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2]  # otherwise a failure in a namespace would not be found
        junitparser.JUnitXml.fromroot(root)  # type: ignore[arg-type]  # it takes tree elements, whatever it says
        return root
    except (ET.ParseError, ValueError, junitparser.JUnitXmlError) as error:
        raise ResultsError(f"the JUnit file cannot be parsed: {short_message(str(error))}") from None


def _decoded(data: bytes) -> str:
    """Return the file's text.

    The encoding that the bytes show (a byte order mark, NULs around `<`) overrides the declared one, because
    writers that declare UTF-16 and write UTF-8 are common. https://www.w3.org/TR/xml/#sec-guessing
    """
    for start, encoding in _SIGNATURES:
        if data.startswith(start):
            return data.decode(encoding, "replace").removeprefix("\ufeff")
    found = _DECLARATION.match(data)
    declared = found.group(1).decode("ascii") if found else "utf-8"
    try:
        encoding = codecs.lookup(declared).name
    except LookupError:
        encoding = ""
    if encoding.startswith(("utf-16", "utf-32")) or encoding == "ascii":
        encoding = "utf-8"
    if not _KNOWN_ENCODING.fullmatch(encoding):  # Python's codecs include decompressors
        raise ResultsError(f"the JUnit file declares the encoding {declared[:40]!r}, which is not supported")
    return data.decode(encoding, "replace")


def _legal_reference(found: re.Match[str]) -> str:
    hexadecimal, decimal = found.groups()
    if hexadecimal is None and decimal is None:
        return "\ufffd"
    code = int(hexadecimal, 16) if hexadecimal is not None else int(decimal)
    legal = code <= 0x10FFFF and not _ILLEGAL.match(chr(code))
    return found.group() if legal else "\ufffd"


def _prolog_end(text: str) -> int:
    """Return the index of the root element. A DOCTYPE is possible only before it; elsewhere it is text or an
    error.
    """
    at = 0
    while True:
        at += len(text[at : at + 4096]) - len(text[at : at + 4096].lstrip())
        if text.startswith("<?", at):
            end, length = text.find("?>", at), 2
        elif text.startswith("<!--", at):
            end, length = text.find("-->", at + 4), 3
        elif text[at : at + 1].isspace():
            continue
        elif text[at : at + 2] == "<!":
            raise ResultsError("the JUnit file has a DOCTYPE, which is refused: it can define entities")
        else:
            return at
        if end < 0:
            raise ResultsError("the JUnit file cannot be parsed: it ends before its root element")
        at = end + length


def _walk(root: ET.Element) -> Iterator[tuple[ET.Element, str]]:
    """Yield cases and errors of suites with the name of their suite, in the file's order, at any depth."""
    open_elements = [(iter(root), root.get("name", ""))]
    while open_elements:
        children, suite = open_elements[-1]
        child = next(children, None)
        if child is None:
            open_elements.pop()
        elif child.tag in {"testcase", "failure", "error"}:
            yield child, suite
        elif child.tag not in _LEAVES:
            open_elements.append((iter(child), child.get("name", suite)))


def _case(element: ET.Element, suite: str, case_name: Callable[[str, str], str]) -> CaseResult:
    if element.tag != "testcase":
        message = short_message(element.get("message", "") or element.text or "")
        return CaseResult(name=short_name(suite or "(suite)"), outcome=CaseOutcome.ERROR, message=message)
    case = junitparser.TestCase.fromelem(element)  # type: ignore[no-untyped-call]  # as it is
    outcome, message = _outcome(element, case.result)
    return CaseResult(
        name=short_name(case_name(case.classname or "", case.name or "")),
        outcome=outcome,
        duration_seconds=_seconds(element.get("time")),
        message=message,
    )


def _outcome(element: ET.Element, results: list[junitparser.junitparser.FinalResult]) -> tuple[CaseOutcome, str]:
    """Return the outcome of a case.

    A case that is both skipped and failed has failed (in its teardown, for example), except where the runner marks
    the failure as expected: node's `<skipped type="todo"/>` beside a `<failure>`.
    """
    failures = [result for result in results if isinstance(result, junitparser.Failure)]
    errors = [result for result in results if isinstance(result, junitparser.Error)]
    skips = [result for result in results if isinstance(result, junitparser.Skipped)]
    todo = bool(skips) and (skips[0].type or "").lower() == "todo" and not errors
    if (failures or errors) and not todo:
        outcome = CaseOutcome.FAILED if failures else CaseOutcome.ERROR
        return outcome, short_message("\n".join(_message(result) for result in (failures + errors)[:4]))
    if skips:
        reason = short_message(skips[0].message or skips[0].text or "")
        if (skips[0].type or "").lower() in _EXPECTED_FAILURE:
            return CaseOutcome.XFAILED, reason
        # pytest's text for an expected failure that did not occur, if a plugin turns that into a failure
        unexpected = reason == "xfail-marked test passes unexpectedly"
        return (CaseOutcome.FAILED if unexpected else CaseOutcome.SKIPPED), reason
    # Surefire, nextest and orch list further failed attempts beside a `<failure>`; after a pass these are
    # flakyFailure and flakyError, which are no failures.
    retried = next((child for child in element if child.tag in {"rerunFailure", "rerunError"}), None)
    if retried is not None:
        return CaseOutcome.FAILED, short_message(retried.get("message", ""))
    # googletest and CTest mark a case that was not run by an attribute only.
    return _BY_STATUS.get(element.get("status", "").lower(), CaseOutcome.PASSED), ""


def _message(result: junitparser.junitparser.FinalResult) -> str:
    """Return the short message, followed by the beginning of the report if that says more."""
    message, text = (result.message or "")[:MESSAGE_CHARS], (result.text or "")[:MESSAGE_CHARS].strip()
    return "\n".join(part for part in (message, text if text != message else "") if part)


def _seconds(text: str | None) -> float | None:
    """Return the duration; None for a value that is not one (junitparser would raise, or accept `nan`)."""
    try:
        seconds = float((text or "")[:64].replace(",", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds <= _MAX_SECONDS else None  # also false for nan


def _missing(suite: ET.Element) -> int:
    """Return how many cases fewer than its `tests` attribute a suite without inner suites lists.

    Skipped cases are allowed for, because some writers count but do not list them, and errors, because they may
    count a case twice.
    """
    if suite.find("testsuite") is not None:
        return 0
    cases = suite.findall("testcase")
    counted_twice = sum(1 for case in cases if case.find("error") is not None)
    unlisted = sum(_count(suite, name) for name in ("skipped", "disabled"))
    unlisted -= sum(1 for case in cases if case.find("skipped") is not None)
    return max(0, _count(suite, "tests") - len(cases) - counted_twice - max(0, unlisted))


def _count(suite: ET.Element, name: str) -> int:
    text = suite.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
