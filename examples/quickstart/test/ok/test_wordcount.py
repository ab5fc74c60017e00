import pytest
import wordcount


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", []), ("One two", ["one", "two"]), ("don't stop", ["don't", "stop"]), ("a-b", ["a", "b"])],
)
def test_words(text, expected):
    assert wordcount.words(text) == expected


def test_the_most_common_come_first():
    assert wordcount.most_common("b a a c a c", 2) == [("a", 3), ("c", 2)]


def test_only_tmp_is_writable(tmp_path):
    (tmp_path / "file").write_text("one two three", encoding="utf-8")
    assert len(wordcount.words((tmp_path / "file").read_text(encoding="utf-8"))) == 3
