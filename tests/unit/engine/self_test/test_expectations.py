from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.commands.self_test import GROUPS as TITLES
from orchestrator.engine.base import EffectiveSettings, Mount
from orchestrator.engine.isolation import hardening
from orchestrator.engine.self_test import expectations
from orchestrator.engine.self_test.cis_benchmark import Check, cis
from orchestrator.engine.self_test.probes import calls
from orchestrator.engine.self_test.runner import _were_together, _with_overlap
from orchestrator.testing.container import effective_of
from tests.support.handmade import make_profile
from tests.support.mutations import EFFECTS, MUTATIONS

CONTEXT = hardening.ContainerContext(
    project_root=Path("/p"), state_dir=Path("/p/.orch"), seccomp="{}", counters=()
)
PROFILE = make_profile(capabilities=("SYS_PTRACE",))
SPEC = hardening.container_spec(
    PROFILE, CONTEXT, name="n", image_id="sha256:1", labels={}, streams_dir=None, cgroup_parent="/orch-1"
)
PAIR = expectations.Pair(name="a", other="b", key=1, other_key=2, look_at=5.0, hold_until=6.0)


def expected(**changes: Any) -> dict[str, Any]:
    one = expectations.with_words(
        expectations.assignment("run", expectations.plain_profile(PROFILE), 1),
        replace(SPEC, **changes),
        probes=expectations.PLAIN,
        pair=PAIR,
        image_env=("PATH=/bin", "LANGUAGE=en"),
        host_file="/x",
    )
    told: dict[str, Any] = json.loads(one.test.command.argv[-1])
    return told


def test_every_group_has_a_title_and_something_that_looks_at_it() -> None:
    assert len(TITLES) == 17
    assert set(expectations.GROUPS.values()) | {14, 16} == set(range(1, 18))


def test_every_probe_is_known_inside() -> None:
    text = expectations.program()["orchestrator.engine.self_test.probes.run"]
    assert set(re.findall(r'^        "(\w+)": ', text, flags=re.MULTILINE)) == expectations.GROUPS.keys()


def test_the_program_fits_one_word_of_a_command_line() -> None:
    assert len(json.dumps(expectations.program())) < 100_000  # Linux ends a word at 128 KiB


def test_what_is_expected_is_what_the_container_was_asked_for() -> None:
    told = expected()
    assert told["capabilities"] == 1 << 19
    assert told["hidden"] == "/work/.orch"
    assert told["writable"] == ["/dev/mqueue", "/dev/shm", "/output", "/tmp"]
    assert {"LANGUAGE", "ORCH_RUN_ID", "HOSTNAME"} <= set(told["variables"])
    assert "LANGUAGE" not in told["needed"]
    assert expected(tmpfs={"/tmp": "rw"})["hidden"] is None


def test_variables_of_a_test_are_all_known() -> None:
    one = expectations.assignment("run", PROFILE, 1)
    assert hardening.test_env(one).keys() == expectations.OWN_NAMES


def test_limits_are_lowered_never_raised() -> None:
    small = make_profile(memory_bytes=32 << 20, cpus=0.25, timeout_seconds=1.0)
    limits = expectations.lowered_profile(small).limits
    assert (limits.memory_bytes, limits.cpus, limits.timeout_seconds) == (
        32 << 20,
        0.25,
        expectations.TEST_SECONDS,
    )
    assert (
        expectations.lowered_profile(make_profile(memory_bytes=1 << 30)).limits.memory_bytes
        == expectations.LOW_MEMORY_BYTES
    )


def test_every_call_has_a_number_for_both_architectures() -> None:
    assert {call for _, call, _, _ in calls.REFUSED} <= calls.NUMBERS.keys()
    assert all(len(numbers) == 2 for numbers in calls.NUMBERS.values())


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({"capabilities_dropped": ()}, "5.3"),
        ({"unrequested": ("Privileged True",)}, "5.4"),
        ({"mounts": (Mount(source="/etc", target="/e"),)}, "5.5"),
        ({"mounts": (Mount(source="/p", target="/work", read_only=False),)}, "5.5"),
        ({"unrequested": ("PortBindings {}",)}, "5.7"),
        ({"network": "host"}, "5.9"),
        ({"memory_bytes": None}, "5.10"),
        ({"read_only_root": False}, "5.12"),
        ({"unrequested": ("PidMode host",)}, "5.15"),
        ({"ipc": "host"}, "5.16"),
        ({"unrequested": ("Devices [1]",)}, "5.17"),
        ({"nofile": (-1, -1)}, "5.18"),
        ({"mounts": (Mount(source="/p", target="/work", propagation="rshared"),)}, "5.19"),
        ({"unrequested": ("UTSMode host",)}, "5.20"),
        ({"seccomp": "unconfined"}, "5.21"),
        ({"cgroup_parent": "/other"}, "5.24"),
        ({"no_new_privileges": False}, "5.25"),
        ({"pids": None}, "5.28"),
        ({"unrequested": ("UsernsMode host",)}, "5.31"),
        ({"mounts": (Mount(source="/run/docker.sock", target="/s"),)}, "5.32"),
        ({"masked_paths": ()}, "-"),
    ],
)
def test_what_the_benchmark_asks_is_looked_at(changes: dict[str, Any], number: str) -> None:
    good: EffectiveSettings = effective_of(SPEC)
    assert [check.check for check in cis(SPEC, good) if check.proven is False] == []
    red = [check.check for check in cis(SPEC, replace(good, **changes)) if check.proven is False]
    assert any(name.startswith(f"CIS {number}:") for name in red), red


def side(made: float, looked: float, held: float, *, proven: bool = True) -> Check:
    observed = f"nothing; made {made:.3f} looked {looked:.3f} held {held:.3f}"
    return Check(group=14, check="nothing of a second container is seen", proven=proven, observed=observed)


def test_two_containers_prove_something_only_while_both_were_there() -> None:
    together = [side(1, 3, 4), side(2, 3, 4)]
    assert _were_together(together)
    assert [(check.proven, check.observed) for check in _with_overlap(together)] == [(True, "nothing")] * 2
    for late in ([side(1, 2, 3), side(2.5, 4, 5)], [side(1, 3, 4), side(1, 4.5, 5)], [side(1, 3, 4)]):
        assert not _were_together(late)
        assert {check.proven for check in _with_overlap(late)} == {False}
    assert [c.proven for c in _with_overlap([side(1, 3, 4, proven=False), side(2, 3, 4)])] == [False, True]


def test_every_effect_is_of_a_mutation() -> None:
    assert EFFECTS.keys() <= {mutation.item for mutation in MUTATIONS}
