from __future__ import annotations

import sys

import pytest
from jinja2 import Environment, FileSystemLoader

from orchestrator.reports.html.environment import CompiledTemplates


@pytest.fixture
def templates(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    (tmp_path / "t.html").write_text("{% if 1 %}\na{{ x }}\n{% endif %}\n")
    return tmp_path


def rendered(templates, **options):
    cache = CompiledTemplates(templates)
    return Environment(
        loader=FileSystemLoader(templates), autoescape=True, bytecode_cache=cache, **options
    ).get_template("t.html").render(x="<")  # fmt: skip


def kept(templates):
    return list((templates / "__pycache__").glob("*.jinja"))


def test_a_template_is_compiled_once_and_kept_where_python_keeps_modules(templates):
    first = rendered(templates)
    (file,) = kept(templates)
    made = file.stat()
    assert rendered(templates) == first == "\na&lt;\n"
    assert kept(templates) == [file]
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (made.st_ino, made.st_mtime_ns)


def test_it_is_compiled_anew_where_its_text_or_an_option_has_changed(templates):
    rendered(templates)
    assert rendered(templates, trim_blocks=True) == "a&lt;\n"
    (templates / "t.html").write_text("b{{ x }}")
    assert rendered(templates, trim_blocks=True) == "b&lt;"
    assert len(kept(templates)) == 1


@pytest.mark.parametrize("length", [0, 3, 20, 80])
def test_a_file_that_is_cut_short_is_as_good_as_none(templates, length):
    first = rendered(templates)
    (file,) = kept(templates)
    whole = file.read_bytes()
    file.write_bytes(whole[:length])
    assert rendered(templates) == first
    assert file.read_bytes() == whole


def test_nothing_is_kept_where_nothing_can_be_written_or_is_to_be(templates, monkeypatch):
    (templates / "__pycache__").write_text("in the way")
    assert rendered(templates) == "\na&lt;\n"
    (templates / "__pycache__").unlink()
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert rendered(templates) == "\na&lt;\n"
    assert kept(templates) == []
