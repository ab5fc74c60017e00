"""`python -m bench`: each benchmark can be started and is documented."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import bench
from bench.__main__ import BENCHMARKS, main

FOLDER = Path(bench.__file__).parent
MODULES = [name for name, (target, _) in BENCHMARKS.items() if not target.endswith(".sh")]


@pytest.mark.parametrize("name", MODULES)
def test_each_benchmark_has_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"usage: python -m bench {name}" in capsys.readouterr().out


def test_scripts_are_there() -> None:
    for target, _ in BENCHMARKS.values():
        if target.endswith(".sh"):
            subprocess.run(["sh", "-n", FOLDER / target], check=True)


def test_the_list_has_each_benchmark_and_its_question(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    listed = capsys.readouterr().out
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name, (_, question) in BENCHMARKS.items():
        assert question in listed
        assert f"| `{name}` | {question} |" in readme


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nosuch"]) == 2
    assert "unknown benchmark 'nosuch'; known are overhead," in capsys.readouterr().err


def test_the_coordinator_runs_without_containers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It uses the interfaces of executor and lane, so that a change of these shows here."""
    monkeypatch.setattr("bench.coordinator.watch", lambda _stages: None)  # it would change classes for other tests
    assert main(["coordinator", "20", "--folder", str(tmp_path)]) == 0
    assert "20 tests, CPU ms a test" in capsys.readouterr().out
