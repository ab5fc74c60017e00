"""Counts words: the program that this example tests.

python3 -m wordcount FILE... prints the number of words in each.
"""

import re
import sys
from collections import Counter
from pathlib import Path


def words(text: str) -> list[str]:
    """Words of a text in lower case; an apostrophe inside a word belongs to it."""
    return re.findall(r"\w+(?:'\w+)*", text.lower())


def most_common(text: str, count: int) -> list[tuple[str, int]]:
    """The most frequent words; among equals the first one seen leads."""
    return Counter(words(text)).most_common(count)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(len(words(Path(name).read_text(encoding="utf-8"))), name)
