"""Commands other than run and reports: doctor, build, clean, shell, init, schema, show-config, profiles, help."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import jsonschema
import yaml

from tests.acceptance.conftest import docker

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.acceptance.conftest import Orch

PASSES = "#!/bin/sh\nexit 0\n"


def test_doctor_finds_the_machine_fit(make_project: Callable[..., Orch]) -> None:
    orch = make_project({"test/good.test.sh": PASSES})
    checks = {check["name"]: check for check in json.loads(orch("doctor", "--format", "json").stdout)["checks"]}
    assert {"engine", "cgroups", "limits", "seccomp", "image", "leftovers"} <= checks.keys()
    assert checks["limits"]["health"] == "ok"
    assert "memory, cpus and pids are enforced" in orch("doctor").stdout
    sick = orch("doctor", "--engine", "unix:///nowhere.sock", expect=36)
    assert "failed" in sick.stdout
    assert "->" in sick.stdout


def test_doctor_shows_the_calibration_of_the_last_run(make_project: Callable[..., Orch]) -> None:
    orch = make_project({"test/good.test.sh": PASSES})
    orch("run")
    assert "isolation: a test that does nothing costs" in orch("doctor").stdout


def test_build_shows_what_dockerignore_saves(make_project: Callable[..., Orch]) -> None:
    dockerfile = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY small /small\n"
    text = "version: 1\nimages:\n  own: {dockerfile: image/Dockerfile, context: image, base: isolation}\n"
    orch = make_project(
        {
            "profiles.yaml": text,
            "image/Dockerfile": dockerfile,
            "image/.dockerignore": "large\n",
            "image/small": "kept\n",
            "image/large": "x" * 100_000,
        }
    )
    first = orch("build", "own", "--offline-base", "--quiet").stdout
    assert "without .dockerignore 98K" in first
    assert "sha256:" in first
    second = orch("build", "own", "--offline-base").stdout
    image = next(word for word in second.split() if word.startswith("sha256:"))
    try:
        assert image in first
        assert orch("shell", "--profile", "fast", "--", "true").returncode == 0
        assert "no image is called" in orch("build", "owm", expect=2).stderr
    finally:
        tags = docker("image", "inspect", "--format", '{{join .RepoTags "\\n"}}', image)
        docker("rmi", *filter(None, tags))


def test_shell_runs_a_command_as_a_test_would_see_it(make_project: Callable[..., Orch]) -> None:
    orch = make_project({"file.txt": "of the project\n"})
    assert orch("shell", "--", "id", "-u").stdout == "1001\n"
    assert orch("shell", "--profile", "fast", "--", "cat", "file.txt").stdout == "of the project\n"
    assert orch("shell", "--profile", "fast", "--", "sh", "-c", "exit 7", expect=7).stdout == ""
    assert "unknown profile" in orch("shell", "--profile", "quick", expect=2).stderr


def test_clean_leaves_nothing_to_clean(make_project: Callable[..., Orch]) -> None:
    orch = make_project({})
    orch("clean", "--older-than", "1h", "--dry-run")
    assert "soon" in orch("clean", "--older-than", "soon", expect=2).stderr


def test_init_writes_what_the_schema_allows_and_run_takes(make_project: Callable[..., Orch]) -> None:
    orch = make_project({"tests/test_it.py": "def test_it():\n    pass\n"})
    orch("init")
    written = yaml.safe_load((orch.project / "profiles.yaml").read_text())
    jsonschema.validate(written, json.loads(orch("schema").stdout))
    assert orch("list").stdout.splitlines() == ["tests/test_it.py"]
    assert "exists already" in orch("init", expect=2).stderr
    orch("init", "--force")


def test_show_config_names_layer_and_place(make_project: Callable[..., Orch]) -> None:
    made = make_project({"profiles.yaml": "version: 1\nprofiles:\n  fast: {memory: 64m, tmpfs: 16m}\n"})
    lines = made("show-config", "--origin").stdout.splitlines()
    memory = next(line for line in lines if line.startswith("profiles.fast.memory "))
    assert "64m" in memory
    assert "profiles.yaml:3:" in memory
    timeout = next(line for line in lines if line.startswith("profiles.fast.timeout "))
    assert "built-in default" in timeout


def test_profiles_show(make_project: Callable[..., Orch]) -> None:
    orch = make_project({})
    shown = orch("profiles", "show").stdout
    assert [line.split()[0] for line in shown.splitlines()[-4:]] == ["fast", "standard", "slow", "intensive"]
    (fast,) = json.loads(orch("profiles", "show", "fast", "--format", "json").stdout)["profiles"]
    assert fast["limits"]["memory_bytes"] == 128 << 20
    assert "standard" in orch("profiles", "show", "standart", expect=2).stderr


def test_help_explains(make_project: Callable[..., Orch]) -> None:
    orch = make_project({})
    assert "\n    orch run --profile fast test/unit " in orch("--help").stdout
    overview = orch("help").stdout
    topics = overview[overview.index("Topics: ") + len("Topics: ") : overview.rindex(" (")].split(", ")
    assert "exit-codes" in topics
    for topic in ("run", *topics):
        assert len(orch("help", topic).stdout.splitlines()) >= 4


def test_a_project_closed_to_others_is_refused_with_the_remedy(make_project: Callable[..., Orch]) -> None:
    orch = make_project({"test/good.test.sh": "true\n"})
    orch.project.chmod(0o700)
    refused = orch("run", expect=2)
    assert "containers run as user 1001" in refused.stderr
    assert "chmod o+rx" in refused.stderr
    assert refused.stdout == ""
