import re
from html.parser import HTMLParser

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.reports.formats.step_summary import LIMIT_BYTES, step_summary
from orchestrator.reports.tables.violations import RunViolations
from tests.unit.reports.conftest import attempt, of, result, summary, told, violation

NASTY = "](http://x.invalid) @team #12 | `a` <img src=x onerror=1> </pre></details>\n# head\n|a|b|\n::error::x"


def page_of(*results, exit_code=1, **limit):
    return step_summary(summary(*results, exit_code=exit_code), told(RunViolations(), *results).groups(), **limit)


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.texts = [], []

    def handle_starttag(self, tag, attrs):
        self.open.append((tag, tuple(attrs)))

    def handle_data(self, data):
        self.texts.append(data)


def tags_of(text):
    parser = Tags()
    parser.feed(text)
    parser.close()
    return parser.open


def test_a_run_is_told_with_its_failures_flaky_ones_and_broken_budgets():
    text = page_of(
        result("test/good.py"),
        result("test/bad.py", "failed", message="exit code 1", stdout=b"it went wrong\n"),
        of(attempt("test/sometimes.py", "failed"), attempt("test/sometimes.py", attempt=2), flaky=True),
        result("test/hungry.py", violations=(violation(),)),
    )
    assert text.startswith("## orch: demo failed\n")
    for title in ("Failures", "Flaky", "Violations", "Most memory"):
        assert f"\n### {title}\n" in text
    assert "it went wrong" in text
    assert "test/good.py" not in text.partition("### Most memory")[0]


def test_a_run_that_passed_says_so():
    assert page_of(result("a.py"), exit_code=0).startswith("## orch: demo passed\n")


def test_a_run_without_tests_is_a_page_too():
    assert "0 run" in page_of()


def test_hostile_names_and_output_stay_text():
    text = page_of(
        result(f"a{NASTY}.py", "failed", message=NASTY, stdout=NASTY.encode(), violations=(violation(),))
    )
    assert {tag for tag, _ in tags_of(text)} == {"details", "summary", "code", "pre"}
    assert all(not attributes for _, attributes in tags_of(text))
    assert text.count("<details>") == text.count("</details>") == 1
    outside = text.partition("<details>")[0]
    assert "@team" not in outside
    assert not re.search(r"(?<!\\)\]\(", outside)
    assert not [line for line in text.split("\n") if line.startswith("# head")]


@settings(max_examples=50)
@given(st.text(min_size=1, max_size=60), st.text(max_size=60), st.binary(max_size=60))
def test_any_text_leaves_the_page_its_own_markup(name, message, output):
    text = page_of(result(name, "failed", message=message, stdout=output))
    text.encode()
    assert [tag for tag, _ in tags_of(text)] == ["details", "summary", "code", "pre"]
    assert sum(line.startswith("#") for line in text.split("\n")) == 3


def test_never_larger_than_github_takes_and_it_says_what_is_left_out():
    log = b"<&\xf0\x9f\x90\x8d" * 20_000
    results = [
        result(f"{n}" + "\U0001f40d|" * 500, "failed", message="&" * 5000, stdout=log, stderr=log)
        for n in range(600)
    ]
    text = page_of(*results)
    assert len(text.encode()) <= LIMIT_BYTES < 1024 * 1024
    for limit in (100_000, 20_000, 700, 200, 100, 0, -5):
        cut = page_of(*results, limit_bytes=limit)
        assert len(cut.encode()) <= max(limit, 0)
        assert limit < 200 or "more section" in cut


def test_every_limit_holds_and_a_page_that_fits_is_whole():
    failed = [result(f"{n}.py", "failed", stdout=b"words " * n) for n in range(12)]
    whole = page_of(*failed)
    assert "more section" not in whole
    for limit in range(0, len(whole.encode()) + 400, 23):
        text = page_of(*failed, limit_bytes=limit)
        assert len(text.encode()) <= limit
        assert text == whole or limit < 200 or "more section" in text
    assert page_of(*failed, limit_bytes=len(whole.encode()) + 200) == whole
