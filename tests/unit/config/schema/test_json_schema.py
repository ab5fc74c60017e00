from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from orchestrator.config.schema.json_schema import json_schema
from orchestrator.config.writing.template import template
from tests.support.configuration import load_text

ROOT = Path(__file__).parents[4]


def _schema_accepts(text: str) -> bool:
    data = YAML(typ="safe", pure=True).load(text)
    return bool(jsonschema.Draft202012Validator(json_schema()).is_valid(data))


def test_check_jsonschema_accepts_the_schema_and_the_files(tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(json_schema()))
    template_file = tmp_path / "profiles.yaml"
    template_file.write_text(template(tmp_path))
    tool = [sys.executable, "-m", "check_jsonschema", "--schemafile", str(schema)]
    files = [str(ROOT / "profiles.yaml"), str(template_file)]
    done = subprocess.run([*tool, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    jsonschema.Draft202012Validator.check_schema(json_schema())


def test_every_key_is_described() -> None:
    schema = json_schema()
    assert schema["$schema"].endswith("draft/2020-12/schema")
    parts = [schema, *schema["$defs"].values()]
    silent = [key for part in parts for key, value in part["properties"].items() if not value.get("description")]
    assert silent == []
    assert all(part["additionalProperties"] is False for part in parts)
    assert "pattern" in schema["$defs"]["ProfilePart"]["properties"]["memory"]


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("profiles: {fast: {memory: 1g, timeout: 1m30s, cpus: 1.5}}", True),
        ("profiles: {fast: {thresholds: {cpu: off, log: 1k, memory_near: 0.5}}}", True),
        ("run: {jobs: auto, max_fail: off, timeout: off, violations: off}", True),
        ("run: {jobs: 4, max_fail: 3, timeout: 2h}", True),
        ("rules:\nsuites:\n", True),
        ("suites: [{name: a, match: [x], runner: shell, env: {A: 1, B: true, C: }}]", True),
        ("database: nightly.db", True),
        ("database: postgresql://me@host/db", True),
        ("database: nightly", False),
        ("profiles: {fast: {memory: 128}}", False),
        ("profiles: {fast: {memory: 1x}}", False),
        ("profiles: {fast: {memory: }}", False),
        ("profiles: {fast: {timeout: 1}}", False),
        ("profiles: {fast: {cpus: '1'}}", False),
        ("profiles: {fast: {cpus: 0}}", False),
        ("profiles: {fast: {inherits: }}", False),
        ("profiles: {fast: {unknown: 1}}", False),
        ("profiles: {fast: {capabilities: [SYS_ADMIN]}}", False),
        ("profiles: {a b: {}}", False),
        ("profiles: {fast: }", False),
        ("rules: [{match: /x, profile: fast}]", False),
        ("rules: [{match: a/.., profile: fast}]", False),
        ("rules: [{match: a, exclusive: on}]", False),
        ("suites: [{name: a, match: [], runner: shell}]", False),
        ("suites: [{name: a, match: [x], runner: shell, env: {ORCH_A: 1}}]", False),
        ("version: 2", False),
        ("run: {violations: false}", False),
    ],
)
def test_the_schema_and_the_loader_agree(tmp_path: Path, text: str, valid: bool) -> None:
    assert _schema_accepts(text) is valid
    assert (load_text(tmp_path, text) is not None) is valid
