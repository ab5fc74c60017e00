"""The project's checks as nox sessions, for developers: `nox -l` lists them. CI and `scripts/test` need no nox."""

from __future__ import annotations

import nox

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
SCRIPTS = ("demo", "test", "test-cgroup2", "lock", "setup-engine", "docker-test.sh", "lib.sh")

WORKFLOWS = (".github/workflows/ci.yml", ".github/workflows/nightly.yml", "examples/ci/github.yml")
GITLAB = (".gitlab-ci.yml", "examples/ci/gitlab.yml")

nox.needs_version = ">=2025.10"
nox.options.sessions = ["lint", "types", "unit"]
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = False


def install(session: nox.Session) -> None:
    """Install the locked packages and this checkout."""
    session.install("--require-hashes", "-r", "requirements/dev.lock")
    session.install("--no-deps", "-e", ".")


@nox.session
def lint(session: nox.Session) -> None:
    """Check format, style, import contracts, shell scripts, Dockerfiles and YAML."""
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
    """Check types with mypy."""
    install(session)
    session.run("mypy")


@nox.session(python=list(PYTHONS))
def unit(session: nox.Session) -> None:
    """Run the unit tests, which need no engine, no server and no network."""
    install(session)
    session.run("python", "-m", "pytest", "tests/unit", "-m", "not postgres", *session.posargs)


@nox.session
def docker(session: nox.Session) -> None:
    """Run the tests that need a real engine, and the fault tests."""
    install(session)
    session.run("scripts/setup-engine", external=True)
    session.run("python", "-m", "pytest", "tests/contract", "tests/docker", "tests/faults", *session.posargs)


@nox.session
def cgroup2(session: nox.Session) -> None:
    """Check figures on cgroup v2, by driver and user, in a virtual machine (20 minutes if it is emulated)."""
    install(session)
    session.run("scripts/test-cgroup2", *session.posargs, external=True)


@nox.session
def acceptance(session: nox.Session) -> None:
    """Run the orch program as a user does."""
    install(session)
    session.run("scripts/setup-engine", external=True)
    session.run("orch", "build", "--offline-base", "--quiet")
    session.run("python", "-m", "pytest", "-m", "acceptance", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Write the pages that are generated from code; with `-- --check` only compare them."""
    install(session)
    session.run("python", "scripts/docs_pages.py", *session.posargs)
