"""The nightly report: one file, nothing from elsewhere, nothing of a test's that could run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from orchestrator.coordinator.output.window_report import judged
from orchestrator.database.queries.nightly import nightly
from orchestrator.database.store.store import Database
from orchestrator.model.nightly import OutputTails
from orchestrator.reports.html.details import unpacked
from orchestrator.reports.html.page import nightly_page
from tests.support.nights import HOSTILE, PROFILES, make_nights

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.model.nightly import HistoryAnalysis, Nightly

END = datetime(2026, 3, 1, 6, tzinfo=UTC)
EVIL = b"</script><script>alert(1)</script>\x1b]0;owned\x07 \xe2\x80\xae \xff " + b"x" * 5_000_000
HOUSE = files("orchestrator.reports.html")
VOID = {"meta", "input", "path", "rect"}


class Page(HTMLParser):
    """Elements with their attributes, and the text below each kind."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._inside: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._inside.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        # cells and rows may be left open, as HTML allows
        while tag in self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.texts[self._inside[-1]][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def read(db: Database, *, hours: int = 24) -> Nightly:
    return nightly(db, since=END - timedelta(hours=hours), until=END, orch_version="0.1.0")


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Nightly:
    with Database.open(None, state_dir=tmp_path_factory.mktemp("calm")) as db:
        make_nights(db, tests=60, nights=5, end=END)
        return read(db)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Nightly:
    with Database.open(None, state_dir=tmp_path_factory.mktemp("hostile")) as db:
        make_nights(db, tests=40, nights=3, end=END, hostile=True)
        return read(db)


def details_of(text: str) -> dict[str, object]:
    found = re.search(r'id="details">([^<]*)</script>', text)
    assert found
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", found[1])
    document = unpacked(found[1])
    assert isinstance(document, dict)
    return document


def test_the_policy_lets_nothing_run_but_the_reports_own_scripts(hostile: Nightly) -> None:
    tails = {test.last.id: OutputTails(stdout=EVIL, stderr=EVIL) for test in hostile.tests}
    text = nightly_page(hostile, tails)
    page = Page(text)
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        for attributes, content in zip(page.all(tag), page.texts[tag], strict=True):
            if attributes.get("type") is None:
                digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
                assert f"'sha256-{digest}'" in policy
    assert [s.get("type") for s in page.all("script")] == ["application/octet-stream", None, None]


def test_hostile_names_are_text_and_nothing_else(hostile: Nightly) -> None:
    tails = {test.last.id: OutputTails(stdout=EVIL) for test in hostile.tests}
    text = nightly_page(hostile, tails)
    page = Page(text)
    assert not page.all("img")
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert all(str(a["href"]).startswith("#") for a in page.all("a"))
    assert "</script><script>document" not in text
    shown = " ".join(" ".join(parts) for tag, parts in page.texts.items() if tag not in ("script", "style"))
    assert "</script><script>document.title='owned'</script>.py" in shown
    assert "{{ 7 * 7 }}" in shown
    assert "\\u202egnp.evil\\u202c" in shown
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]", text)
    assert max(len(row) for row in page.texts["bdi"]) < 500
    assert len(text.encode()) < 400_000
    assert len(HOSTILE) == 10


def test_nothing_comes_from_elsewhere(calm: Nightly) -> None:
    text = nightly_page(calm)
    page = Page(text)
    loading = [
        (tag, name, value)
        for tag, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "srcset", "data", "action", "poster", "background", "ping", "xlink:href")
    ]
    assert loading == []
    assert not page.all("link")
    assert not page.all("iframe")
    styles = " ".join(page.texts["style"])
    assert "url(" not in styles
    assert "@import" not in styles
    # a notice of uPlot; nothing loads it
    assert set(re.findall(r"https?://[^\s\"'<>)]+", text)) == {
        "https://github.com/leeoniya/uPlot",
    }


def test_headings_tables_and_drawings_are_named_for_those_who_do_not_see_them(calm: Nightly) -> None:
    text = nightly_page(calm)
    page = Page(text)
    assert len(page.all("h1")) == 1
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    assert len(page.all("table")) == len(page.all("caption"))
    heads = re.findall(r"<thead.*?</thead>", text, re.DOTALL)
    assert heads
    assert all('<th scope="col"' in head and not re.search(r"<th(?! scope)(?!ead)", head) for head in heads)
    for svg in page.all("svg"):
        assert svg.get("aria-hidden") == "true" or (svg.get("role") == "img" and svg.get("aria-label"))
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    targets = {str(a["href"])[1:] for a in page.all("a")}
    assert targets <= set(ids)
    assert page.all("html")[0]["lang"] == "en"


def test_every_test_is_in_the_table_and_in_the_details(calm: Nightly) -> None:
    text = nightly_page(calm)
    table = text[text.index('id="all"') :]
    names = re.findall(r"<tr[^>]*><td>\w+<th>([^<]+)<td>", table)
    assert sorted(names) == sorted(str(test.test_id) for test in calm.tests)
    details = details_of(text)
    tests, usage = details["tests"], details["usage"]
    assert isinstance(tests, dict)
    assert isinstance(usage, dict)
    assert len(tests["samples"]) == len(usage["memory_peak_bytes"]) == 60
    first = names.index(str(calm.tests[30].test_id))
    length, memory, *_ = tests["samples"][first]
    assert length == pytest.approx(calm.tests[30].samples.at_seconds[-1], rel=1e-3)
    charged = max(value or 0 for value in calm.tests[30].samples.memory_bytes)
    floor = calm.tests[30].last.usage.memory_floor_bytes or 0  # the chart begins at what stood before the test
    assert memory[0] == pytest.approx(charged - floor, rel=1e-3)


def test_output_is_bounded_and_its_end_kept(calm: Nightly) -> None:
    failing = next(test for test in calm.tests if test.failing)
    tails = {failing.last.id: OutputTails(stdout=b"first\n" + b"y" * 5_000_000 + b"\nthe last words\n")}
    details = details_of(nightly_page(calm, tails))
    tests = details["tests"]
    assert isinstance(tests, dict)
    outputs = [output for output in tests["out"] if output]
    assert len(outputs) == 1
    assert outputs[0].endswith("the last words")
    assert len(outputs[0]) < 6100


def test_a_smaller_limit_leaves_out_details_of_calm_tests_first(calm: Nightly) -> None:
    large = nightly_page(calm)
    small = nightly_page(calm, limit=len(large) - 15_000)
    tests = details_of(small)["tests"]
    assert isinstance(tests, dict)
    assert len(small) < len(large)
    rows = re.findall(r"<tr( id=t\d+)?( class=bad)?[^>]*><td>\w+<th>", small[small.index('id="all"') :])
    bad = [number for number, (_, tone) in enumerate(rows) if tone]
    assert bad
    assert all(tests["samples"][number] for number in bad)


def judged_of(db: Database, report: Nightly) -> HistoryAnalysis:
    firsts = {test.test_id: test.attempts[0] for test in report.tests}
    return judged(db, firsts, until=report.until, profiles=PROFILES)


def test_flaky_tests_have_their_causes_and_profiles_their_advice(tmp_path: Path) -> None:
    """Of the made-up nights: test 9 is throttled when it fails, test 7 ran out of memory."""
    with Database.open(None, state_dir=tmp_path) as db:
        make_nights(db, tests=60, nights=20, end=END)
        report = read(db)
        analysis = judged_of(db, report)
    text = nightly_page(report, analysis=analysis)
    flaky = text[text.index('aria-label="Flaky tests"') : text.index('<h2 id="profiles">')]
    rows = re.findall(
        r'<tr><th scope="row"><a[^>]*><bdi>(.*?)</bdi></a><td class="nowrap">(\d+ of \d+ failed)', flaky
    )
    assert sorted(name.rpartition("_")[2] for name, _ in rows) == ["11.py", "9.py"]
    assert re.search(
        r"throttled by its CPU limit 40 % of the time when it fails, 1.0 % otherwise \(by chance 1 in", flaky
    )
    assert "no cause found in" in flaky
    advice = text[text.index('<h2 id="profiles">') : text.index('<h2 id="tests">')]
    worst = re.search(
        r"<td>standard<td><b class=\"bad\">slow</b><td class=\"num\">-512M<td class=\"num\">(\d+)", advice
    )
    assert worst
    assert int(worst[1]) == 17, "the runs in which it passed"
    assert '<td>slow<td>standard<td class="num">512M' in advice
    assert "orch profiles suggest" in advice
    tile = re.search(r"<dt>Flaky</dt><dd><strong>(\d+)", text)
    assert tile
    assert int(tile[1]) == len(rows) == 2


def test_nothing_is_said_of_profiles_where_nothing_was_judged(calm: Nightly) -> None:
    text = nightly_page(calm)
    assert 'id="profiles"' not in text
    assert "No test passed and failed" in text


@pytest.mark.slow
def test_two_thousand_tests_fit_in_half_a_megabyte(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Database.open(None, state_dir=tmp_path_factory.mktemp("many")) as db:
        make_nights(db, tests=2000, nights=2, end=END)
        report = read(db)
        text = nightly_page(report, analysis=judged_of(db, report))
    assert len(text.encode()) < 500_000
    tests = details_of(text)["tests"]
    assert isinstance(tests, dict)
    assert sum(1 for samples in tests["samples"] if samples) == 2000


def test_a_window_without_runs(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Database.open(None, state_dir=tmp_path_factory.mktemp("none")) as db:
        text = nightly_page(read(db))
    assert "No test ran" in text
    assert "No run was started in this window" in text


def test_vendored_files_are_those_of_their_packages() -> None:
    known = json.loads((HOUSE / "vendor/vendor.json").read_text(encoding="utf-8"))
    present = {entry.name for entry in (HOUSE / "vendor").iterdir()} - {"vendor.json"}
    assert set(known) == present == {"uPlot.js", "uPlot.css", "uPlot.LICENSE"}
    for name, facts in known.items():
        assert hashlib.sha256((HOUSE / "vendor" / name).read_bytes()).hexdigest() == facts["sha256"], name


def test_licences_travel_with_the_page(calm: Nightly) -> None:
    text = nightly_page(calm)
    assert (HOUSE / "vendor/uPlot.LICENSE").read_text(encoding="utf-8").strip() in text
