from __future__ import annotations

import dataclasses
import pickle
from typing import TYPE_CHECKING

from orchestrator.config.loader import load_config
from orchestrator.config.writing.setting_texts import setting_texts

if TYPE_CHECKING:
    from pathlib import Path

_TEXT = """
profiles:
  own: {inherits: intensive, cpus: 0.5, memory: 7000k, tmpfs: 1m, timeout: 1500ms,
        thresholds: {cpu: 90s, log: 1m}}
run: {jobs: 3, timeout: 1h, strict_limits: true, max_fail: 2}
suites: [{name: a, match: [x], runner: shell, env: {A: 1, API_TOKEN: hush}}]
images: {mine: {dockerfile: D, build_args: {PIP_PASSWORD: hush, V: 1}}}
presets: {ci: ["--db postgresql://me:hush@db/x"]}
retention: {records: 9d}
state_dir: out
database: postgresql://me:hidden:too@db/x
"""


def test_every_setting_with_an_origin_has_a_text(tmp_path: Path) -> None:
    (tmp_path / "profiles.yaml").write_text(_TEXT)
    config = load_config(path=None, start=tmp_path, env={})
    texts = setting_texts(config)
    assert list(texts) == sorted(config.origins)
    assert texts["profiles.own.memory"] == "7000k"
    assert texts["database"] == "postgresql://me:***@db/x"
    assert (texts["state_dir"], texts["run.jobs"], texts["run.strict_limits"]) == ("out", "3", "true")
    assert texts["profiles.fast.thresholds.cpu"] == "off"
    assert "hush" not in str(texts)
    assert '"env": {"A": "1", "API_TOKEN": "***"}' in texts["suites"]


def test_profile_texts_given_back_as_settings_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "profiles.yaml").write_text(_TEXT)
    config = load_config(path=None, start=tmp_path, env={})
    scalars = {
        key: text
        for key, text in setting_texts(config).items()
        if key.startswith(("profiles.", "run.", "retention."))
        and text
        and not key.endswith((".inherits", ".capabilities"))
    }
    assert len(scalars) > 90
    again = load_config(path=None, start=tmp_path, env={}, overrides=scalars)
    assert (dict(again.profiles), again.run, again.retention) == (
        dict(config.profiles),
        config.run,
        config.retention,
    )


def test_a_config_can_be_sent_to_another_process_and_taken_apart(tmp_path: Path) -> None:
    (tmp_path / "profiles.yaml").write_text(_TEXT)
    config = load_config(path=None, start=tmp_path, env={})
    assert pickle.loads(pickle.dumps(config)) == config
    assert dataclasses.asdict(config)["suites"][0]["env"] == {"A": "1", "API_TOKEN": "hush"}
