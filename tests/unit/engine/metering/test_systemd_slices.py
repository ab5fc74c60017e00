from __future__ import annotations

import os
from typing import TYPE_CHECKING

from orchestrator.engine.metering.systemd_slices import stop_slices

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def program(folder: Path, exit_code: int) -> Path:
    """A `systemctl` that writes down how it was called."""
    said = folder / "said"
    path = folder / "systemctl"
    path.write_text(f'#!/bin/sh\necho "$@" >>{said}\nexit {exit_code}\n')
    path.chmod(0o755)
    return said


def test_all_slices_are_stopped_by_one_program_that_does_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = program(tmp_path, 0)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    stop_slices({"orch_b.slice", "orch_a.slice"})
    stop_slices(())
    assert said.read_text() == "--quiet --no-block stop orch_a.slice orch_b.slice\n"


def test_a_slice_that_cannot_be_stopped_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = program(tmp_path, 5)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    stop_slices(["gone.slice"])
    assert said.exists()
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    stop_slices(["gone.slice"])
