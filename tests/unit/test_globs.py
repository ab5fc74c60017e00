import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import UsageError
from orchestrator.globs import compile_glob


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("test/**/test_*.py", "test/test_a.py", True),
        ("test/**/test_*.py", "test/unit/deep/test_a.py", True),
        ("test/**/test_*.py", "other/test/test_a.py", False),
        ("test/**/test_*.py", "test/test_dir/a.py", False),
        ("test/unit/**", "test/unit/a.py", True),
        ("test/unit/**", "test/unit", False),
        ("test/unit/", "test/unit/x/a.py", True),
        ("**", "any/thing", True),
        ("**/*.sh", "a.sh", True),
        ("*.sh", "a/b.sh", False),
        ("./a/*.sh", "a/b.sh", True),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("test_[ab].py", "test_b.py", True),
        ("test_[!ab].py", "test_b.py", False),
        ("test_[!ab].py", "test_c.py", True),
        ("a[!b]c", "a/c", False),
        ("a[/-z]c", "a/c", False),
        ("x[[]1].py", "x[1].py", True),
        ("x[1.py", "x[1.py", True),
        ("a.py", "aXpy", False),
        ("test/*", "test/new\nline", True),
        ("**/**/**/a", "x/y/a", True),
    ],
)
def test_a_glob_matches_whole_paths(pattern, path, expected):
    assert bool(compile_glob(pattern).fullmatch(path)) is expected


def test_a_range_from_high_to_low_is_refused_with_the_glob():
    with pytest.raises(UsageError, match=r"glob 'a\[z-a\]'"):
        compile_glob("a[z-a]")


@given(st.text(alphabet="ab*?.[]!-^\\&|~\n"), st.text(alphabet="ab.[]-!\n"))
def test_without_slashes_a_glob_is_what_fnmatch_takes_it_for(pattern, name):
    if "**" in pattern or "[^" in pattern or pattern.startswith("./"):
        return
    try:
        compiled = compile_glob(pattern)
    except UsageError:
        return
    assert bool(compiled.fullmatch(name)) == bool(re.fullmatch(fnmatch.translate(pattern), name))


def test_many_stars_do_not_backtrack_without_end():
    assert compile_glob("**/" * 30 + "x").fullmatch("a/" * 2000 + "b") is None
