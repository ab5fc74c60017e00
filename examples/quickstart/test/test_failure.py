# Ends as: failed.
import wordcount


def test_this_passes():
    assert wordcount.words("one") == ["one"]


def test_a_hyphen_joins_words():
    assert wordcount.words("well-known") == ["well-known"]
