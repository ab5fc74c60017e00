import os

import pytest

from orchestrator.suites.source import HEADER_BYTES, file_markers, profile_hint, read_source


@pytest.mark.parametrize(
    "line",
    [
        b"# orch: profile=slow",
        b"// orch: profile=slow",
        b"-- orch: profile=slow",
        b"; orch: profile = slow",
        b"/* orch: profile=slow */",
        b"<!-- orch: profile=slow -->",
        b"% orch:profile=slow",
        b"REM orch: profile=slow",
        b"#!/bin/sh\n\n   #  Orch: profile=slow, because it compiles",
    ],
)
def test_the_hint_is_found_in_any_comment_style(line):
    assert profile_hint(line) == "slow"


@pytest.mark.parametrize(
    "text",
    [b"print('x orch: profile=slow')", b"orch: profile=slow", b"# torch: profile=slow", b"# orch: slow"],
)
def test_what_is_no_comment_of_ours_is_no_hint(text):
    assert profile_hint(text) is None


def test_a_hint_beyond_the_header_does_not_count():
    assert profile_hint(b"#\n" * HEADER_BYTES + b"# orch: profile=slow\n") is None


def test_markers_of_the_module_and_of_every_decorator():
    content = b"""
import pytest
from pytest import mark
pytestmark = [
    pytest.mark.one,  # not pytest.mark.commented
    pytest.mark.two(reason="]"),
]
@pytest.mark.three
def test_a(): ...
class TestB:
    pytestmark = pytest.mark.four
    @mark.five("x")
    def test_c(self): ...
# @pytest.mark.not_this
x = pytest.mark.nor_this
"""
    assert file_markers(content) == {"one", "two", "three", "four", "five"}


def test_reading_tells_size_shebang_and_who_may_execute(tmp_path):
    script = tmp_path / "a.sh"
    script.write_bytes(b"#!/bin/sh\nexit 0\n" + b"#" * 10_000)
    script.chmod(0o744)
    source = read_source(str(script), python=False)
    assert (source.size_bytes, source.has_shebang, len(source.content)) == (10_017, True, HEADER_BYTES)
    assert not source.executable  # only its owner may, and in the container that is somebody else
    script.chmod(0o755)
    assert read_source(str(script), python=False).executable


def test_a_fifo_is_refused_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        read_source(str(tmp_path / "pipe"), python=False)
