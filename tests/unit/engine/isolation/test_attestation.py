from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.base import ContainerSpec, EffectiveSettings, Inspection, Mount
from orchestrator.engine.isolation.attestation import attest
from orchestrator.engine.isolation.effective_limits import parse_effective_limits
from orchestrator.engine.isolation.hardening import ContainerContext, container_spec
from orchestrator.model.evidence import EngineState
from orchestrator.testing.container import effective_of
from tests.support.handmade import ENGINE, make_profile

V1 = """\
memory.limit_in_bytes 67108864
cpu.cfs_quota_us 50000
cpu.cfs_period_us 100000
pids.max 64
CapEff 0000000000000000
CapBnd 0000000000000000
NoNewPrivs 1
Seccomp 2
Readable no
@/sys/fs/cgroup/pids/pids.peak
9
"""
V2 = """\
memory.max 67108864
cpu.max 50000 100000
pids.max 64
CapBnd 0000000000080000
Readable no
@/sys/fs/cgroup/x
"""


def asked(**changes: Any) -> ContainerSpec:
    context = ContainerContext(project_root=Path("/p"), state_dir=None, seccomp="{}", counters=())
    profile = make_profile(cpus=0.5, **changes)
    return container_spec(
        profile, context, name="n", image_id="sha256:1", labels={}, streams_dir=None, cgroup_parent=None
    )


def inspected(of: ContainerSpec | None = None, **changes: Any) -> Inspection:
    """What an obedient engine reports, with these changes."""
    return Inspection(
        id="id",
        name="n",
        state=EngineState(status="exited"),
        effective=replace(effective_of(of or asked()), **changes),
    )


def silent() -> Inspection:
    """Of an engine that says nothing of a container's settings."""
    return Inspection(id="id", name="n", state=EngineState(status="exited"), effective=EffectiveSettings())


def test_what_the_kernel_holds_is_stored() -> None:
    found = attest(inspected(memory_bytes=67108864), asked=asked(), begin=V1, info=ENGINE)
    assert found.mismatches == ()
    assert found.limits_from_kernel
    assert (found.effective_memory_bytes, found.effective_cpus, found.effective_pids) == (67108864, 0.5, 64)
    assert (found.no_new_privileges, found.seccomp_mode) == (True, 2)
    assert (found.engine, found.kernel, found.cgroup_version) == ("docker 20.10.24+dfsg1", "5.10", 1)


def test_version_2_and_a_capability_given_back() -> None:
    traced = asked(capabilities=("SYS_PTRACE",))
    found = attest(inspected(traced), asked=traced, begin=V2, info=ENGINE)
    assert (found.effective_cpus, found.effective_pids, found.mismatches) == (0.5, 64, ())
    assert found.capabilities_effective is None
    assert attest(inspected(), asked=asked(), begin=V2, info=ENGINE).mismatches == (
        "capabilities: none asked, effective 0 and bounding 80000 in the kernel",
    )


@pytest.mark.parametrize(
    ("was", "becomes", "sentence"),
    [
        ("_in_bytes 67108864", "_in_bytes 9223372036854771712", "memory limit: 67108864 bytes asked, no limit"),
        ("_in_bytes 67108864", "_in_bytes 67112960", "memory limit: 67108864 bytes asked, 67112960"),
        ("quota_us 50000", "quota_us -1", "CPU limit: 0.5 CPUs asked, no limit"),
        ("quota_us 50000", "quota_us 50002", "CPU limit: 0.5 CPUs asked, 0.50002"),
        ("pids.max 64", "pids.max max", "pids limit: 64 asked, no limit"),
        ("CapEff 0000000000000000", "CapEff 0000000000000001", "capabilities: none asked, effective 1"),
        ("CapBnd 0000000000000000", "CapBnd 0000000000000400", "capabilities: none asked, effective 0 and bound"),
        ("NoNewPrivs 1", "NoNewPrivs 0", "no-new-privileges asked, not set"),
        ("Seccomp 2", "Seccomp 0", "a seccomp profile asked, seccomp mode 0"),
    ],
)  # fmt: skip
def test_a_mismatch_is_a_sentence(was: str, becomes: str, sentence: str) -> None:
    assert was in V1
    found = attest(inspected(), asked=asked(), begin=V1.replace(was, becomes), info=ENGINE)
    assert len(found.mismatches) == 1
    assert found.mismatches[0].startswith(sentence)


@pytest.mark.parametrize(
    ("was", "becomes", "driver"),
    [
        ("_in_bytes 67108864", "_in_bytes 67043329", "cgroupfs"),  # whole pages of 64 KiB
        ("quota_us 50000", "quota_us 50001", "cgroupfs"),
        ("quota_us 50000", "quota_us 51000", "systemd"),  # whole percent
    ],
)
def test_rounding_is_no_mismatch(was: str, becomes: str, driver: str) -> None:
    info = replace(ENGINE, cgroup_driver=driver)
    assert attest(inspected(), asked=asked(), begin=V1.replace(was, becomes), info=info).mismatches == ()


TRUTHS = {
    "memory_bytes": 1 << 30,
    "swap_bytes": -1,
    "pids": 65,
    "cpus": 1.0,
    "nofile": (-1, -1),
    "core": (-1, -1),
    "shm_bytes": 64 << 20,
    "network": "bridge",
    "ipc": "host",
    "cgroup_namespace": "host",
    "log_driver": "json-file",
    "capabilities_added": ("NET_RAW",),
    "capabilities_dropped": (),
    "seccomp": "unconfined",
    "seccomp_digest": "0" * 16,
    "no_new_privileges": False,
    "read_only_root": False,
    "user": "0",
    "image_id": "sha256:2",
    "mounts": (Mount(source="/var/run/docker.sock", target="/x"),),
    "tmpfs": {},
    "masked_paths": (),
    "read_only_paths": (),
    "entrypoint": ("/bin/other",),
    "argv": (),
    "env": (),
    "working_dir": "/x",
    "hostname": "x",
    "tty": True,
    "stdin_open": False,
    "health_check": True,
    "restart": "always",
    "cgroup_parent": "/x",
    "volumes": frozenset({"/x"}),
    "unrequested": ("Privileged True",),
}


def test_every_setting_that_an_engine_reports_is_compared() -> None:
    assert {f.name for f in fields(EffectiveSettings)} == TRUTHS.keys()


@pytest.mark.parametrize("name", TRUTHS)
def test_the_engines_word_counts_too(name: str) -> None:
    wanted = replace(asked(), cgroup_parent="/orch-1")
    assert attest(inspected(wanted), asked=wanted, begin=V1, info=ENGINE).mismatches == ()
    changed = inspected(wanted, **{name: TRUTHS[name]})
    assert attest(changed, asked=wanted, begin=V1, info=ENGINE).mismatches != ()


def test_the_engines_own_seccomp_profile_is_not_ours() -> None:
    changed = inspected(seccomp="default", seccomp_digest=None)
    assert "engine's default" in attest(changed, asked=asked(), begin=V1, info=ENGINE).mismatches[0]


def test_swap_is_not_asked_of_an_engine_that_cannot_limit_it() -> None:
    changed = inspected(swap_bytes=-1)
    assert attest(changed, asked=asked(), begin=V1, info=replace(ENGINE, swap_limit=False)).mismatches == ()
    assert attest(changed, asked=asked(), begin=V1, info=ENGINE).mismatches != ()


def test_another_image_is_a_mismatch() -> None:
    other = replace(asked(), image_id="sha256:2")
    assert "image" in attest(inspected(asked()), asked=other, begin=V1, info=ENGINE).mismatches[0]


def test_silence_is_no_mismatch_and_no_figure() -> None:
    found = attest(silent(), asked=asked(), begin="", info=ENGINE)
    assert found.mismatches == ()
    assert (found.limits_from_kernel, found.effective_memory_bytes, found.seccomp_mode) == (False, None, None)


@pytest.mark.parametrize(
    ("answer", "mismatch"),
    [
        ("Readable no\n", None),
        ("Readable yes\n", "tests can read the memory of process 1"),
        ("", "the agent did not say whether tests can read its memory"),
        ("Readable maybe\n", "the agent did not say whether tests can read its memory"),
        ("Readable yes\nReadable no\n", "tests can read the memory of process 1"),
    ],
)
def test_an_agent_that_tests_can_read_is_a_mismatch(answer: str, mismatch: str | None) -> None:
    begin = V1.replace("Readable no\n", answer)
    found = attest(inspected(), asked=asked(), begin=begin, info=ENGINE).mismatches
    assert found == () if mismatch is None else len(found) == 1 and found[0].startswith(mismatch)


@given(st.text(alphabet="memory.mxcpud CapEfBnd0123456789 -\n@", max_size=200))
def test_any_text_is_read_without_an_error(text: str) -> None:
    attest(inspected(), asked=asked(), begin=text, info=ENGINE)


def test_what_comes_after_the_first_counter_is_not_a_limit() -> None:
    assert parse_effective_limits("pids.max 64\n@/x\npids.max 7\nSeccomp 0\n").pids == 64
    assert parse_effective_limits("@/x\nSeccomp 0\n").seccomp_mode is None
