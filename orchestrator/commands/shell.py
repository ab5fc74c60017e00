"""`orch shell`: open a shell in a profile's image, under the profile's limits, to see what a test would see.

The engine's own command-line client handles the terminal. It is started with the settings that a test's container
gets, and the reaper removes the container as it does for a run.
"""

from __future__ import annotations

import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

from orchestrator.coordinator.console import note
from orchestrator.coordinator.environment import ensure_images_of, run_environment
from orchestrator.coordinator.session import load_with_database
from orchestrator.engine import labels
from orchestrator.engine.docker.command_line_client import client_env, client_program
from orchestrator.engine.docker.engine import open_engine
from orchestrator.engine.isolation import hardening
from orchestrator.engine.isolation.docker_run import run_words
from orchestrator.measure.processes import host_info
from orchestrator.scheduling.assign import clamp, known_profile

if TYPE_CHECKING:
    from pathlib import Path


def shell(
    *,
    config_path: Path | None,
    database: str | None,
    engine_url: str | None,
    profile: str,
    offline_base: bool,
    argv: tuple[str, ...],
) -> int:
    """Run a command, by default a shell, on this terminal. Return its exit code."""
    config = load_with_database(config_path, database)
    chosen, notices = clamp(known_profile(profile, config.profiles, "--profile"), host_info())
    for text in notices:
        note(text)
    engine = open_engine(engine_url)
    images = ensure_images_of(config, [chosen.image], engine, offline_base=offline_base)
    run_id = str(uuid.uuid4())
    name = f"orch-{run_id[:8]}-shell"
    with run_environment(run_id, config, engine, images={}) as environment:
        spec = hardening.container_spec(
            chosen,
            environment.context,
            name=name,
            image_id=images[chosen.image],
            labels={},
            streams_dir=None,
            cgroup_parent=None,
        )
        seccomp_file = environment.work_dir / "seccomp.json"
        seccomp_file.write_text(environment.context.seccomp, encoding="utf-8")
        words = run_words(
            spec,
            argv or ("/bin/sh",),
            program=client_program(engine.info),
            seccomp_file=str(seccomp_file),
            env=hardening.BASE_ENV,
            working_dir=hardening.PROJECT_DIR,
            labels=labels.helper_labels(environment.owner, name),
            interactive=sys.stdin.isatty() and sys.stdout.isatty(),
            name=name,
        )
        return subprocess.run(words, env=client_env(engine.info), check=False).returncode
