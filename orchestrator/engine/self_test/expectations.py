"""What the probes inside are told: their program, and what is expected of the profile. Pure."""

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
"""Probe -> its group in the table."""
REACHING = ("memory", "quota")
"""Probes that reach a limit, at a size that this machine has: in a second container, whose limits are lower."""
FILLING = ("tasks", "tmpfs")
"""Probes that reach a limit at its own size; last, since a container without it may be killed."""
PLAIN = (*(name for name in GROUPS if name not in REACHING + FILLING), *FILLING)
LOW_MEMORY_BYTES = 64 << 20
LOW_CPUS = 0.25
TEST_SECONDS = 60.0
"""A profile's own time limit may be shorter than all probes take."""
OWN_NAMES = frozenset(
    (
        "ORCH", "ORCH_RUN_ID", "ORCH_PROFILE", "ORCH_MEMORY_LIMIT", "ORCH_CPU_LIMIT", "ORCH_TEST_ID",
        "ORCH_ATTEMPT", "TEST_TMPDIR", "TEST_TIMEOUT", "TEST_SHARD_INDEX", "TEST_TOTAL_SHARDS",
        "TEST_UNDECLARED_OUTPUTS_DIR", "XML_OUTPUT_FILE",
    )
)  # fmt: skip
"""Variables that a test is told of its run."""
ENGINES_NAMES = frozenset(("HOSTNAME", "container"))
"""Those that engines add by themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What the two containers of a profile know of each other."""

    name: str
    other: str
    key: int
    """Of its System V objects."""
    other_key: int
    look_at: float
    """Seconds since the epoch, as both see them: then each looks for the other's marks, which stand by then."""
    hold_until: float


def plain_profile(profile: Profile) -> Profile:
    """The profile itself, with the time that the probes need."""
    limits = replace(profile.limits, timeout_seconds=max(TEST_SECONDS, profile.limits.timeout_seconds))
    return replace(profile, limits=limits, reuse=1)


def lowered_profile(profile: Profile) -> Profile:
    """The profile with limits that can be reached in a moment."""
    plain = plain_profile(profile)
    limits = replace(
        plain.limits,
        memory_bytes=min(LOW_MEMORY_BYTES, plain.limits.memory_bytes),
        cpus=min(LOW_CPUS, plain.limits.cpus),
    )
    return replace(plain, limits=limits)


def assignment(run_id: str, profile: Profile, number: int) -> Assignment:
    """A test whose words are given later: they depend on its container."""
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
    """The assignment with the program of the probes and what they are to expect of a container of this spec."""
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
    """Module's name -> its text."""
    folder = files(_PACKAGE)
    return {f"{_PACKAGE}.{name}": folder.joinpath(f"{name}.py").read_text(encoding="utf-8") for name in _MODULES}
