from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.config.parsing.nodes import Items, Scalar, Table
from orchestrator.config.parsing.yaml_tree import read_tree


def _tree(text: str) -> Table:
    tree, problems = read_tree(text, file="f.yaml")
    assert problems == []
    assert isinstance(tree, Table)
    return tree


def _complaints(text: str) -> list[str]:
    return [str(problem) for problem in read_tree(text, file="f.yaml")[1]]


def test_scalars_keep_their_text_and_place() -> None:
    tree = _tree("a: on\nb:\n  - 1:30\n  - 0x1F\n  - 'quoted'\n")
    assert tree.entries["a"] == Scalar("on", tree.entries["a"].place)
    assert str(tree.entries["a"].place) == "f.yaml:1:4"
    items = tree.entries["b"]
    assert isinstance(items, Items)
    assert [(i.text, i.quoted, str(i.place)) for i in items.items if isinstance(i, Scalar)] == [
        ("1:30", False, "f.yaml:3:5"),
        ("0x1F", False, "f.yaml:4:5"),
        ("quoted", True, "f.yaml:5:5"),
    ]
    assert str(tree.key_places["b"]) == "f.yaml:2:1"


def test_kinds_are_those_of_yaml_1_2() -> None:
    words = ["on", "yes", "1:30", "true", "~", "", "12", "1.5", ".nan", "0o17", "2024-01-01", "1_000"]
    tree = _tree("".join(f"k{n}: {word}\n" for n, word in enumerate(words)))
    kinds = [node.kind for node in tree.entries.values() if isinstance(node, Scalar)]
    assert kinds == ["text"] * 3 + ["true/false", "null", "null"] + ["number"] * 4 + ["text"] * 2


def test_duplicate_keys_are_refused_at_every_level() -> None:
    assert _complaints("a: 1\nb: {x: 1, x: 2}\na: 3\n") == [
        "f.yaml:2:11: the key `x` was already given in line 2; remove one",
        "f.yaml:3:1: the key `a` was already given in line 1; remove one",
    ]


def test_a_multiplying_alias_is_refused_quickly() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 10)}]\n" for n in range(9)
    )
    (complaint,) = _complaints(bomb)
    assert "aliases make this document too large" in complaint


def test_an_alias_of_itself_is_refused() -> None:
    assert "aliases make this document too large" in _complaints("a: &a [*a]\n")[0]


def test_an_honest_alias_is_read() -> None:
    tree = _tree("a: &x 1\nb: *x\n")
    assert tree.entries["b"] == tree.entries["a"]


def test_deep_nesting_tags_merge_keys_and_odd_keys_are_refused() -> None:
    assert "nested more than 32 levels" in _complaints("[" * 5000)[0]
    assert "f.yaml:1:4: the tag" in _complaints("a: !!python/object:os.system x\n")[0]
    assert "the tag `tag:yaml.org,2002:int`" in _complaints("a: !!int 3\n")[0]
    assert "use `inherits`" in _complaints("a: &a {x: 1}\nb: {<<: *a}\n")[0]
    assert "a key must be a single word" in _complaints("? [a, b]\n: 1\n")[0]


def test_syntax_errors_have_a_place() -> None:
    unclosed = _complaints("a: [1,\nb: 2\n")[0]
    assert unclosed.startswith("f.yaml:3:1: this is not YAML: while parsing a flow sequence (from line 1)")
    assert "tabs cannot indent" in _complaints("a:\n\tb: 1\n")[0]
    assert _complaints("a: 1\nb: \x00\n")[0] == "f.yaml:2:4: the character U+0000 is not allowed in YAML"
    assert _complaints("a: 1\n---\nb: 2\n")[0].startswith("f.yaml:2:1")
    assert _complaints("a: *unknown\n")[0].startswith("f.yaml:1:4")


def test_an_empty_document_is_no_problem() -> None:
    assert read_tree("# nothing\n", file="f.yaml") == (None, [])


@settings(max_examples=200)
@given(st.text(alphabet="ab:-[]{}&*!|>'\"#?,%@`\n\t ~<=x1.", max_size=60))
def test_any_text_gives_a_tree_or_problems(text: str) -> None:
    tree, problems = read_tree(text, file="f.yaml")
    assert tree is not None or problems or not _has_content(text)
    assert all(problem.place.line >= 1 and problem.place.column >= 1 for problem in problems)


def _has_content(text: str) -> bool:
    return any(line.split("#")[0].strip(" \t") for line in text.splitlines() if not line.startswith("%"))
