"""The project's checks as nox sessions, for developers: `nox -l` lists them. CI and `scripts/test` need no nox."""

from __future__ import annotations

import nox

PYTHONS = ("3.11", "3.12", "3.13")
SCRIPTS = ("demo", "test", "test-cgroup2", "lock", "setup-engine", "docker-test.sh", "lib.sh")

WORKFLOWS = (".github/workflows/ci.yml", ".github/workflows/nightly.yml", "examples/ci/github.yml")
GITLAB = (".gitlab-ci.yml", "examples/ci/gitlab.yml")

nox.needs_version = ">=2025.10"
nox.options.sessions = ["lint", "types", "unit"]
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = False


def install(session: nox.Session) -> None:
    """Exactly what is locked, and this checkout."""
    session.install("--require-hashes", "-r", "requirements/dev.lock")
    session.install("--no-deps", "-e", ".")


@nox.session
def lint(session: nox.Session) -> None:
    """Format, style, layers, shell scripts, Dockerfiles, YAML."""
    install(session)
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("lint-imports", "--no-logo")
    session.run("shellcheck", ".ci/run", *(f"scripts/{name}" for name in SCRIPTS))
    session.run("shellcheck", "--shell=sh", "--severity=warning", "orchestrator/engine/agent/agent.sh")
    session.run("hadolint", "docker/Dockerfile.test-isolation", "docker/Dockerfile.test-full")
    session.run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.test.yml")
    session.run(
        "yamllint", "--strict", "docker-compose.test.yml", "profiles.yaml", *WORKFLOWS, *GITLAB, "action.yml"
    )
    for schema, files in (("workflows", WORKFLOWS), ("actions", ("action.yml",))):
        session.run("check-jsonschema", "--builtin-schema", f"vendor.github-{schema}", *files)
    session.run("check-jsonschema", "--builtin-schema", "vendor.gitlab-ci", *GITLAB)
    session.run("zizmor", "--offline", *WORKFLOWS, "action.yml")


@nox.session
def types(session: nox.Session) -> None:
    """mypy, strict."""
    install(session)
    session.run("mypy")


@nox.session(python=list(PYTHONS))
def unit(session: nox.Session) -> None:
    """Unit tests: no engine, no server, no network, seconds."""
    install(session)
    session.run("python", "-m", "pytest", "tests/unit", "-m", "not postgres", *session.posargs)


@nox.session
def docker(session: nox.Session) -> None:
    """Tests that need a real engine, and the faults."""
    install(session)
    session.run("scripts/setup-engine", external=True)
    session.run("python", "-m", "pytest", "tests/contract", "tests/docker", "tests/faults", *session.posargs)


@nox.session
def cgroup2(session: nox.Session) -> None:
    """Figures on cgroup v2, by driver and user, in a virtual machine: 20 minutes where it is emulated."""
    install(session)
    session.run("scripts/test-cgroup2", *session.posargs, external=True)


@nox.session
def acceptance(session: nox.Session) -> None:
    """The orch program as a user runs it."""
    install(session)
    session.run("scripts/setup-engine", external=True)
    session.run("orch", "build", "--offline-base", "--quiet")
    session.run("python", "-m", "pytest", "-m", "acceptance", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Write the pages that are made from code; `nox -s docs -- --check` only compares."""
    install(session)
    session.run("python", "scripts/docs_pages.py", *session.posargs)
