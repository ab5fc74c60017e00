import textwrap

import pytest

from orchestrator.suites.cases import CannotListError, custom_names, list_cases


def names(text):
    return [case.name for case in list_cases(textwrap.dedent(text).encode())]


def test_functions_and_methods_in_the_order_of_the_file():
    text = """
    import pytest
    def helper(): ...
    @pytest.fixture
    def test_data(): ...
    def test_b(): ...
    async def test_a(): ...
    @pytest.mark.parametrize("x", [1, 2])
    def test_p(x): ...
    class TestX:
        def helper(self): ...
        def test_m(self): ...
        class TestInner:
            def test_i(self): ...
    class Helper:
        def run(self): ...
    class TestNotCollected:
        def __init__(self): ...
        def test_never(self): ...
    """
    assert names(text) == ["test_b", "test_a", "test_p", "TestX::test_m", "TestX::TestInner::test_i"]


def test_unittest_classes_need_no_test_in_their_name():
    assert names("import unittest\nclass Checks(unittest.TestCase):\n  def test_a(self): ...\n") == [
        "Checks::test_a"
    ]


def test_a_class_with_bases_is_one_case_for_its_methods_may_be_inherited():
    assert names("class TestX(Base):\n  def test_a(self): ...\ndef test_f(): ...\n") == ["TestX", "test_f"]


def test_each_case_has_its_own_its_classes_and_the_modules_markers():
    text = """
    import pytest
    pytestmark = [pytest.mark.module]
    @pytest.mark.cls
    class TestX:
        pytestmark = pytest.mark.inside
        @pytest.mark.own(1)
        def test_a(self): ...
        def test_b(self): ...
    def test_f(): ...
    """
    markers = {case.name: set(case.markers) for case in list_cases(textwrap.dedent(text).encode())}
    assert markers == {
        "TestX::test_a": {"module", "cls", "inside", "own"},
        "TestX::test_b": {"module", "cls", "inside"},
        "test_f": {"module"},
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("from common import *\ndef test_a(): ...", "run time"),
        ("from common import test_b\ndef test_a(): ...", "test_b"),
        ("test_b = make()\ndef test_a(): ...", "test_b"),
        ("if True:\n  def test_b(): ...\ndef test_a(): ...", "test_b"),
        ("try:\n  from a import test_b\nexcept ImportError:\n  pass\ndef test_a(): ...", "test_b"),
        ("@parameterized.expand([1])\ndef test_a(x): ...", "@expand"),
        ("@parameterized_class([])\nclass TestA:\n  def test_a(self): ...", "@parameterized_class"),
        ("class Checks(Base):\n  def test_a(self): ...\ndef test_f(): ...", "class Checks"),
        ("class TestA:\n  __test__ = False\n  def test_a(self): ...", "__test__"),
        ("x = 1", "no test function"),
        ("def test_a(:", "parsed"),
        ("\0", "parsed"),
    ],
)
def test_what_the_text_cannot_tell_is_never_left_out_silently(text, why):
    with pytest.raises(CannotListError, match=why):
        names(text)


def test_a_configuration_that_changes_names_is_seen(tmp_path):
    assert custom_names(tmp_path) is None
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\npython_functions = 'check_*'\n")
    assert custom_names(tmp_path) == "pyproject.toml"
