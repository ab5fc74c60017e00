"""Makes the `docker run` command line of a container's settings. Pure."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.engine.base import ContainerSpec


def run_words(
    spec: ContainerSpec,
    argv: Sequence[str],
    *,
    program: str,
    seccomp_file: str,
    env: Mapping[str, str | None],
    working_dir: str,
    labels: Mapping[str, str] | None = None,
    interactive: bool = False,
    name: str | None = None,
) -> list[str]:
    """Return the words of `docker run ...` with the settings of `spec`, and the command `argv` as its program.

    A variable of `env` whose value is None is passed without a value: the client takes it from its own
    environment.
    """
    words = [program, "run", "--rm", "--name", name or f"{spec.name}-by-hand", "--init"]
    if interactive:
        words += ["-it"]
    words += [word for key, value in (labels or {}).items() for word in ("--label", f"{key}={value}")]
    words += ["--user", spec.user, "--hostname", spec.hostname, "--network", spec.network]
    words += ["--read-only", "--cap-drop", "ALL"]
    words += [word for capability in spec.capabilities for word in ("--cap-add", capability)]
    words += ["--security-opt", "no-new-privileges", "--security-opt", f"seccomp={seccomp_file}"]
    words += ["--memory", str(spec.memory_bytes), "--memory-swap", str(spec.memory_bytes)]
    words += ["--cpus", f"{spec.cpus:g}", "--pids-limit", str(spec.pids)]
    words += ["--ulimit", f"nofile={spec.nofile}:{spec.nofile}", "--ulimit", "core=0:0"]
    words += [
        "--shm-size",
        str(spec.shm_bytes),
        "--ipc",
        "private",
        "--cgroupns",
        "private",
        "--log-driver",
        "none",
    ]
    words += [word for path, options in spec.tmpfs.items() for word in ("--tmpfs", f"{path}:{options}")]
    for mount in spec.mounts:
        flags = ",readonly" if mount.read_only else ""
        words += ["--mount", f"type=bind,source={mount.source},target={mount.target}{flags}"]
    for variable, value in env.items():
        words += ["--env", variable if value is None else f"{variable}={value}"]
    words += ["--workdir", working_dir, "--entrypoint", argv[0], spec.image_id, *argv[1:]]
    return words


def shell_text(words: Sequence[str]) -> str:
    """Return the words as a command for a POSIX shell, with one option per line."""
    lines: list[str] = []
    current = shlex.quote(words[0]) + " " + shlex.quote(words[1])
    for word in words[2:]:
        if word.startswith("--"):
            lines.append(current)
            current = "    " + shlex.quote(word)
        else:
            current += " " + shlex.quote(word)
    lines.append(current)
    return " \\\n".join(lines)
