import re
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from orchestrator.reports.formats.gitlab import Metrics, rounded
from tests.unit.reports.conftest import result, summary, told, usage, violation


def text_of(*results):
    return told(Metrics(), *results).text(summary(*results))


def openmetrics(text):
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def as_gitlab(text):
    """Its parser's steps: cut at #, split as a shell, first two words."""
    found = {}
    for line in text.splitlines():
        name, *values = shlex.split(re.sub(r"#.*$", "", line)) or [""]
        if name and values:
            assert name not in found
            found[name] = values[0]
    return found


def test_figures_are_read_back_by_prometheus():
    found = openmetrics(text_of(result("test/a.py", violations=(violation(),)), result("b.py", "oom")))
    assert found["orch_tests", (("outcome", "passed"),)] == 1
    assert found["orch_tests", (("outcome", "oom"),)] == 1
    assert found["orch_violations", (("kind", "child-oom"),)] == 1
    assert found["orch_test_memory_peak_bytes", (("test", "test/a.py"),)] == 64_000_000
    assert found["orch_test_duration_seconds", (("test", "b.py"),)] == pytest.approx(0.4)


@given(st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=5, unique=True))
def test_whatever_a_test_is_called_both_parsers_read_the_same(names):
    text = text_of(*(result(name) for name in names))
    text.encode("ascii")
    ours, theirs = openmetrics(text), as_gitlab(text)
    assert len(ours) == len(theirs)
    assert sum(name == "orch_test_cpu_seconds" for name, _ in ours) == len(names)
    for (name, labels), value in ours.items():
        inner = ",".join(f"{label}={text}" for label, text in labels)
        assert float(theirs[f"{name}{{{inner}}}" if labels else name]) == value


def test_what_was_not_measured_has_no_line():
    text = text_of(result("a.py", usage=usage(peak=None)))
    assert "orch_test_memory_peak_bytes{" not in text
    assert "orch_test_cpu_seconds{" in text


def test_a_repeated_series_is_written_once():
    text = text_of(result("x" * 2000), result("y" + "x" * 1999))
    assert len(openmetrics(text)) == len(as_gitlab(text))


@pytest.mark.parametrize(
    ("value", "step", "expected"),
    [
        (63_963_136, 1e6, 64e6),
        (64_400_000, 1e6, 64e6),
        (1_234_567_890, 1e6, 1.2e9),
        (0.412, 0.1, 0.4),
        (0.02, 0.1, 0.0),
        (12.34, 0.1, 12.0),
        (0.0, 0.1, 0.0),
        (987.0, 0.1, 990.0),
        (300_000, 1e6, 0.0),
    ],
)
def test_two_digits_and_no_finer_than_the_step(value, step, expected):
    assert rounded(value, step) == pytest.approx(expected)


@given(st.floats(1e-6, 1e13))
def test_rounding_is_near_and_holds_still(value):
    once = rounded(value, 0.1)
    assert abs(once - value) <= max(0.05, value * 0.05) * 1.000001
    assert rounded(once, 0.1) == pytest.approx(once)


def test_an_unchanged_test_with_noise_looks_the_same():
    first = text_of(result("a.py", seconds=0.412, usage=usage(peak=61 << 20)))
    again = text_of(result("a.py", seconds=0.437, usage=usage(peak=(61 << 20) + 300_000)))
    assert first == again


def test_the_file_ends_as_openmetrics_asks(tmp_path):
    Metrics().write(summary(), tmp_path / "metrics.txt")
    assert (tmp_path / "metrics.txt").read_text().endswith("# EOF\n")


@pytest.mark.parametrize("side", ["upper", "lower"])
def test_a_memory_figure_that_is_a_bound_says_so(side):
    bounded = usage(**{f"memory_peak_is_{side}_bound": True})
    found = openmetrics(text_of(result("a.py", usage=bounded), result("b.py")))
    assert ("orch_test_memory_peak_bytes", (("bound", side), ("test", "a.py"))) in found
    assert ("orch_test_memory_peak_bytes", (("test", "b.py"),)) in found
    assert ("orch_test_cpu_seconds", (("test", "a.py"),)) in found
