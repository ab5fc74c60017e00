"""A test's own memory is the same figure wherever it ran, whatever was charged before (CASES B1, B2, B4)."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.acceptance.conftest import Orch

MIB = 1 << 20
FOLDERS = 12
PEAKS_ARE_SET_BACK = os.geteuid() == 0
"""Whether orch may do that, as root. Otherwise a figure may be a bound, and a test that needs more than an eighth
of its limit ends its container.
"""
TRIVIAL = "def test_t():\n    assert True\n"
HUNGRY = """\
def test_hungry():
    held = bytearray({mib} << 20)
    held[::4096] = b"x" * len(held[::4096])
"""
PROFILES = """\
version: 1
default_profile: {profile}
profiles:
  fast: {{timeout: 20s}}
  fresh: {{inherits: fast, reuse: 1}}
  reused: {{inherits: fast}}
suites:
  - {{name: unit, match: ["d*/test_*.py"], runner: pytest, preload: {preload}}}
"""
MODES = {
    "forked": ("fast", "start"),
    "collecting": ("fast", "collect"),
    "reused": ("reused", "off"),
    "fresh": ("fresh", "off"),
}


def run(orch: Orch, *words: str) -> Mapping[str, Any]:
    """Run orch and return each test's last attempt, by path."""
    document = json.loads(orch("run", "--offline-base", "--jobs", "1", "--format", "json", *words).stdout)
    return {test["path"]: test["attempts"][-1] for test in document["tests"]}


def peaks(found: Mapping[str, Any]) -> list[int]:
    for attempt in found.values():
        usage, first = attempt["usage"], attempt["slot"]["position"] == 1
        assert not usage["memory_peak_is_lower_bound"], usage
        assert not usage["memory_peak_is_upper_bound"] or not (PEAKS_ARE_SET_BACK or first), usage
    return sorted(attempt["usage"]["memory_peak_bytes"] for attempt in found.values())


def is_one(low: int, high: int) -> bool:
    """Return whether two figures are equal within 1 MiB or 5 %."""
    return high - low <= max(MIB, high / 20)


@pytest.mark.parametrize("mode", MODES)
def test_the_same_test_needs_the_same_in_any_position(
    make_project: Callable[[Mapping[str, str]], Orch], mode: str
) -> None:
    """The figure does not depend on the position in a slot (CASES B1; without own memory: 40, 54, 67, 80 MiB)."""
    profile, preload = MODES[mode]
    files = {f"d{n}/test_x.py": TRIVIAL for n in range(FOLDERS)}
    files |= {f"d{n}/test_y.py": HUNGRY.format(mib=20) for n in (3, 7)}
    orch = make_project({**files, "profiles.yaml": PROFILES.format(profile=profile, preload=preload)})
    found = run(orch)
    assert {attempt["outcome"] for attempt in found.values()} == {"passed"}
    launches = {attempt["slot"]["launch"] for attempt in found.values()}
    assert launches == {"forked" if mode in ("forked", "collecting") else "process"}
    if mode != "fresh" and (PEAKS_ARE_SET_BACK or mode != "reused"):  # 18 MiB are more than an eighth of the limit
        assert len({attempt["slot"]["position"] for attempt in found.values()}) > FOLDERS // 2
    trivial = peaks({path: one for path, one in found.items() if "test_x" in path})
    hungry = peaks({path: one for path, one in found.items() if "test_y" in path})
    assert is_one(trivial[0], trivial[-1]), [round(peak / MIB, 2) for peak in trivial]
    assert is_one(hungry[0], hungry[-1]), [round(peak / MIB, 2) for peak in hungry]
    assert is_one(trivial[0] + 20 * MIB, hungry[0]), (trivial[0] / MIB, hungry[0] / MIB)
    if mode == "forked":
        assert trivial[-1] < 12 * MIB
        assert min(one["usage"]["memory_floor_bytes"] for one in found.values()) > 20 * MIB
        limits = {one["attestation"]["effective_memory_bytes"] for one in found.values()}
        assert min(limits) > (128 + 20) * MIB  # what is charged before takes nothing from the profile's 128 MiB


def test_the_test_that_needs_most_has_rank_1(make_project: Callable[[Mapping[str, str]], Orch]) -> None:
    """The test that needs most has rank 1 in any position (CASES B2; without own memory: rank 24 of 61)."""
    files = {f"d{n % 10}/test_{n}.py": TRIVIAL for n in range(30)}
    files["d5/test_hungry.py"] = HUNGRY.format(mib=20)
    orch = make_project({**files, "profiles.yaml": PROFILES.format(profile="fast", preload="start")})
    run(orch)
    ranked = json.loads(orch("offenders", "--format", "json").stdout)
    assert ranked["offenders"][0]["test"] == "d5/test_hungry.py"
    line = orch("run", "--offline-base", "d5/test_hungry.py").stdout
    assert " shared" in line


def test_the_limit_applies_to_a_tests_own_memory(make_project: Callable[[Mapping[str, str]], Orch]) -> None:
    """A test can use its whole limit beside what it is forked from, and not more."""
    files = {"d1/test_fits.py": HUNGRY.format(mib=112), "d2/test_over.py": HUNGRY.format(mib=140)}
    orch = make_project({**files, "profiles.yaml": PROFILES.format(profile="fast", preload="start")})
    document = json.loads(orch("run", "--offline-base", "--jobs", "1", "--format", "json", expect=None).stdout)
    first = {test["path"]: test["attempts"][0] for test in document["tests"]}
    assert {attempt["slot"]["launch"] for attempt in first.values()} == {"forked"}
    assert (first["d1/test_fits.py"]["outcome"], first["d2/test_over.py"]["outcome"]) == ("passed", "oom")
    assert not any(attempt["attestation"]["mismatches"] for attempt in first.values())


def test_page_cache_is_not_counted(make_project: Callable[[Mapping[str, str]], Orch]) -> None:
    """Page cache of a large file is not counted as need (CASES B4)."""
    reads = """\
def test_reads():
    with open("/work/large.bin", "rb", buffering=0) as file:
        while file.read(1 << 20):
            pass
"""
    files = {"d1/test_reads.py": reads}
    orch = make_project({**files, "profiles.yaml": PROFILES.format(profile="fresh", preload="off")})
    with (orch.project / "large.bin").open("wb") as file:
        for _ in range(200):
            file.write(bytes(1 << 20))
    descriptor = os.open(orch.project / "large.bin", os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # otherwise it is charged to nobody
    os.close(descriptor)
    usage = run(orch)["d1/test_reads.py"]["usage"]
    assert usage["page_cache_bytes"] > 90 * MIB
    assert usage["memory_peak_bytes"] < 40 * MIB
    assert not usage["memory_peak_is_upper_bound"]
