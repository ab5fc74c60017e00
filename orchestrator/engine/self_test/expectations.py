"""Makes the program of the probes that run in a container, and the settings that they expect. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.engine.isolation import hardening
from orchestrator.engine.isolation.attestation import CAPABILITY_BITS
from orchestrator.model.tests import Assignment, Command, Test, TestId

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.engine.base import ContainerSpec
    from orchestrator.model.profiles import Profile

_PACKAGE = "orchestrator.engine.self_test.probes"
_MODULES = ("common", "files", "calls", "limits", "together", "run")
_LOADER = """\
import json, sys, types
for name, text in json.loads(sys.argv[1]).items():
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(text, name, 'exec'), module.__dict__)
    parent = sys.modules.setdefault(name.rpartition('.')[0], types.ModuleType(name.rpartition('.')[0]))
    setattr(parent, name.rpartition('.')[2], module)
module.main(json.loads(sys.argv[2]))
"""
GROUPS: Mapping[str, int] = {
    "identity": 1, "places": 2, "tmpfs": 3, "privileges": 4, "closed": 5, "devices": 6, "network": 7,
    "environment": 8, "refused": 9, "works": 9, "tasks": 10, "memory": 10, "quota": 10, "cgroups": 11,
    "processes": 12, "descriptors": 13, "process_limits": 15, "container": 17,
}  # fmt: skip
"""The group of each probe in the table of results."""
REACHING = ("memory", "quota")
"""The probes that reach a limit of memory or CPU; they run in a second container with lower limits."""
FILLING = ("tasks", "tmpfs")
"""The probes that reach a limit at its full size; they run last, because a container without it may be killed."""
PLAIN = (*(name for name in GROUPS if name not in REACHING + FILLING), *FILLING)
LOW_MEMORY_BYTES = 64 << 20
LOW_CPUS = 0.25
TEST_SECONDS = 60.0
"""The least time limit of the probes' containers; a profile's own limit may be too short."""
OWN_NAMES = frozenset(
    (
        "ORCH", "ORCH_RUN_ID", "ORCH_PROFILE", "ORCH_MEMORY_LIMIT", "ORCH_CPU_LIMIT", "ORCH_TEST_ID",
        "ORCH_ATTEMPT", "TEST_TMPDIR", "TEST_TIMEOUT", "TEST_SHARD_INDEX", "TEST_TOTAL_SHARDS",
        "TEST_UNDECLARED_OUTPUTS_DIR", "XML_OUTPUT_FILE",
    )
)  # fmt: skip
"""The environment variables with which orch describes a run to a test."""
ENGINES_NAMES = frozenset(("HOSTNAME", "container"))
"""The environment variables that engines add by themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The names, keys and times by which one of a profile's two containers searches for the other."""

    name: str
    other: str
    key: int
    """The key of its System V objects."""
    other_key: int
    look_at: float
    """The time (epoch seconds) at which each container searches for the other's marks."""
    hold_until: float


def plain_profile(profile: Profile) -> Profile:
    """Return the profile without reuse, and with a time limit that is long enough for the probes."""
    limits = replace(profile.limits, timeout_seconds=max(TEST_SECONDS, profile.limits.timeout_seconds))
    return replace(profile, limits=limits, reuse=1)


def lowered_profile(profile: Profile) -> Profile:
    """Return the profile with limits of memory and CPU that a probe can reach quickly."""
    plain = plain_profile(profile)
    limits = replace(
        plain.limits,
        memory_bytes=min(LOW_MEMORY_BYTES, plain.limits.memory_bytes),
        cpus=min(LOW_CPUS, plain.limits.cpus),
    )
    return replace(plain, limits=limits)


def assignment(run_id: str, profile: Profile, number: int) -> Assignment:
    """Return the assignment of a test whose command is set later, because it depends on its container."""
    return Assignment(
        run_id=run_id,
        test=Test(id=TestId(path=f"self-test-{profile.name}-{number}"), suite="", command=Command(argv=("true",))),
        profile=profile,
        reason="self-test",
    )


def with_words(
    one: Assignment,
    spec: ContainerSpec,
    *,
    probes: Sequence[str],
    pair: Pair,
    image_env: Sequence[str],
    host_file: str,
) -> Assignment:
    """Return the assignment with the command that runs the probes, and the settings expected of this spec."""
    names = {word.partition("=")[0] for word in image_env}
    limits = one.profile.limits
    hidden = [place for place in spec.tmpfs if place.startswith(f"{hardening.PROJECT_DIR}/")]
    root = Path("/").stat()
    expected = {
        "probes": list(probes),
        "groups": dict(GROUPS),
        "name": pair.name,
        "other": pair.other,
        "key": pair.key,
        "other_key": pair.other_key,
        "look_at": pair.look_at,
        "hold_until": pair.hold_until,
        "capabilities": sum(1 << CAPABILITY_BITS[name] for name in spec.capabilities if name in CAPABILITY_BITS),
        "project": hardening.PROJECT_DIR,
        "hidden": hidden[0] if hidden else None,
        "writable": sorted({p for p in spec.tmpfs if p not in hidden} | {"/dev/shm", "/dev/mqueue"}),  # noqa: S108 - inside
        "variables": sorted(names | hardening.BASE_ENV.keys() | OWN_NAMES | ENGINES_NAMES),
        "needed": sorted(hardening.BASE_ENV.keys() | OWN_NAMES),
        "mounts": [
            "/",
            "/etc/hosts",
            "/etc/hostname",
            "/etc/resolv.conf",
            *(mount.target for mount in spec.mounts),
        ],
        "nofile": limits.nofile,
        "pids": limits.pids,
        "cpus": limits.cpus,
        "memory_bytes": limits.memory_bytes,
        "tmpfs_bytes": limits.tmpfs_bytes,
        "tmpfs_inodes": limits.tmpfs_inodes,
        "network": spec.network,
        "hostname": spec.hostname,
        "host_file": host_file,
        "host_root": [root.st_dev, root.st_ino],
    }
    argv = ("python3", "-c", _LOADER, json.dumps(program()), json.dumps(expected))
    return replace(one, test=replace(one.test, command=replace(one.test.command, argv=argv)))


def program() -> dict[str, str]:
    """Return the source text of the probes' modules by module name."""
    folder = files(_PACKAGE)
    return {f"{_PACKAGE}.{name}": folder.joinpath(f"{name}.py").read_text(encoding="utf-8") for name in _MODULES}
