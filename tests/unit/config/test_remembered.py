"""Settings that were read before are not read again, and nothing else is taken for them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from orchestrator.config import remembered
from orchestrator.config.loader import load_config
from orchestrator.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from orchestrator.config.settings import Config

FULL = """\
version: 1
default_profile: big
profiles:
  big: {inherits: standard, cpus: 1.5, memory: 700m, thresholds: {cpu: 3s, memory_near: off}}
rules:
  - {match: "test/slow/**", profile: slow, retries: 2, group: db}
suites:
  - {name: sh, match: ["test/**/*.sh"], exclude: ["test/x/*"], runner: shell, pass_env: [HOME]}
images:
  mine: {dockerfile: Dockerfile}
run: {jobs: 3, timeout: 1h}
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "orch"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "profiles.yaml").write_text(FULL)
    return folder


def load(folder: Path, env: Mapping[str, str] | None = None, **overrides: str) -> Config:
    dotted = {name.replace("__", "."): value for name, value in overrides.items()}
    return load_config(path=None, start=folder, env=env or {}, overrides=dotted)


def entries(cache: Path) -> list[Path]:
    return sorted(cache.glob("orch-settings-*.json"))


def test_what_is_remembered_is_what_was_read(project: Path, cache: Path) -> None:
    first = load(project)
    (entry,) = entries(cache)
    written = entry.stat().st_mtime_ns
    assert load(project) == first
    assert entries(cache) == [entry]
    assert entry.stat().st_mtime_ns == written  # the second one was not read
    assert str(load(project).origins["run.jobs"]) == str(first.origins["run.jobs"]) == "file (profiles.yaml:11:13)"


def test_without_a_file_too(tmp_path: Path, cache: Path) -> None:
    (tmp_path / ".git").mkdir()
    assert load(tmp_path) == load(tmp_path)
    assert len(entries(cache)) == 1


def test_neither_yaml_nor_pydantic_is_imported_again(project: Path, cache: Path) -> None:
    load(project)
    assert entries(cache)
    program = (
        "import sys; from pathlib import Path; from orchestrator.config.loader import load_config;"
        "load_config(path=None, start=Path.cwd(), env={}); print({'yaml', 'pydantic'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=project, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"


def test_whatever_settings_are_made_of_counts(project: Path, cache: Path) -> None:
    assert load(project).run.jobs == 3
    assert load(project, run__jobs="4").run.jobs == 4
    assert load(project, {"ORCH_JOBS": "5"}).run.jobs == 5
    (project / "profiles.yaml").write_text(FULL.replace("jobs: 3", "jobs: 6"))
    assert load(project).run.jobs == 6
    assert len(entries(cache)) == 4
    other = project / "elsewhere"
    other.mkdir()
    assert load(other).path == project / "profiles.yaml"
    assert str(load(other).origins["run.jobs"]).startswith("file (profiles.yaml")


def test_what_is_wrong_is_said_each_time(project: Path, cache: Path) -> None:
    (project / "profiles.yaml").write_text("version: 1\nrun: {jobs: none}\n")
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"profiles.yaml:2:13"):
            load(project)
    assert entries(cache) == []


@pytest.mark.parametrize(
    "line",
    [
        "database: postgresql://me:secret@host/db",  # a secret
        "seccomp: mine.json",  # rests on a file that may change
        'suites: [{name: a, match: ["a"], runner: shell, working_dir: sub}]',
        # CASES D10
        'suites: [{name: a, match: ["a"], runner: shell, env: {API_TOKEN: "secret"}}]',
        'suites: [{name: a, match: ["a"], runner: shell, env: {PLAIN: "secret"}}]',
        'suites: [{name: a, match: ["a"], runner: pytest, command: ["--password=secret"]}]',
        'images: {a: {dockerfile: Dockerfile, build_args: {V: "secret"}}}',
        'presets: {ci: ["--db postgresql://me:secret@host/db"]}',
    ],
)
def test_what_may_change_or_is_secret_is_not_kept(project: Path, cache: Path, line: str) -> None:
    (project / "mine.json").write_text('{"defaultAction": "SCMP_ACT_ERRNO"}')
    (project / "profiles.yaml").write_text(f"version: 1\n{line}\n")
    assert load(project) == load(project)
    assert entries(cache) == []


def test_what_an_earlier_orch_kept_is_removed(project: Path, cache: Path) -> None:
    cache.mkdir(parents=True, mode=0o700)
    earlier = cache / "orch-config-0123.json"
    earlier.write_text('{"settings": {"suites": "secret"}}')
    load(project)
    assert not earlier.exists()


def test_an_entry_that_is_not_ours_alone_is_not_believed(project: Path, cache: Path) -> None:
    load(project)
    (entry,) = entries(cache)
    forged = entry.read_text().replace('[3, "file"', '[9, "file"')
    entry.write_text(forged)
    assert load(project).run.jobs == 9  # ours: believed
    entry.chmod(0o666)
    assert load(project).run.jobs == 3
    entry.write_text(forged)
    entry.chmod(0o600)
    cache.chmod(0o777)
    assert load(project).run.jobs == 3
    cache.chmod(0o700)
    if os.geteuid() == 0:
        os.chown(entry, 12345, 12345)
        assert load(project).run.jobs == 3


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"settings": {"a": [1]}, "rule_places": [], "digest": ""}']
)
def test_a_broken_entry_is_none(project: Path, cache: Path, text: str) -> None:
    expected = load(project)
    (entry,) = entries(cache)
    entry.write_text(text)
    assert load(project) == expected


def test_without_a_place_for_it_all_is_read(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/no-such-place")
    assert load(project) == load(project)


def test_old_entries_go(project: Path, cache: Path) -> None:
    for number in range(1, remembered.KEPT + 4):
        load(project, run__jobs=str(number))
    assert len(entries(cache)) == remembered.KEPT
    assert set(cache.iterdir()) == set(entries(cache))  # and nothing half made
