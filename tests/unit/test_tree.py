"""The tests mirror the packages: a test file has the folder and the name of its module."""

from __future__ import annotations

from pathlib import Path

UNIT = Path(__file__).parent
ROOT = UNIT.parents[1]

WITHOUT_MODULE = {
    "bench/test_runner.py": "bench/__main__.py",
    "test_ci_files.py": "workflows and pipelines, which are YAML",
    "test_docs.py": "pages made from code, and the links between pages",
    "test_imports.py": "what the program as a whole imports",
    "test_shipped_files.py": "Dockerfiles and shell scripts",
    "test_tree.py": "this file",
}
"""Test files without a Python module of the same name, with what they test."""


def test_each_test_file_mirrors_a_module() -> None:
    """`FOLDER/test_NAME.py` and `FOLDER/test_NAME_TOPIC.py` test the module or package
    `orchestrator/FOLDER/NAME`.
    """
    files = sorted(path.relative_to(UNIT) for path in UNIT.rglob("test_*.py"))
    assert files
    astray = [str(path) for path in files if not _has_module(path)]
    assert astray == sorted(WITHOUT_MODULE)


def _has_module(test: Path) -> bool:
    package = ROOT / test.parent if test.parts[0] == "bench" else ROOT / "orchestrator" / test.parent
    words = test.stem.removeprefix("test_").split("_")
    names = ["_".join(words[:count]) for count in range(1, len(words) + 1)]
    return any((package / f"{name}.py").is_file() or (package / name / "__init__.py").is_file() for name in names)
