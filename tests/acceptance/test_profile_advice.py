"""The notice of a run and the advice of the history never contradict each other (CASES B5)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.acceptance.conftest import Orch

TRIVIAL = "def test_t():\n    assert True\n"
ONCE_HUNGRY = """\
import os


def test_hungry_at_first():
    if os.environ["ORCH_PROFILE"] == "tiny":
        held = bytearray(40 << 20)
        held[::4096] = b"x" * len(held[::4096])
"""
PROFILES = """\
version: 1
default_profile: slow
profiles:
  fast: {{thresholds: {{oversized: 0.9}}, timeout: 20s}}
  tiny: {{inherits: fast, memory: {memory}, tmpfs: 12m, outputs: 12m, shm: 12m, reuse: {reuse}}}
rules:
  - {{match: "{direct}", profile: fast}}
  - {{match: "test/*", profile: tiny}}
suites:
  - {{name: unit, match: ["test/test_*.py"], runner: pytest, preload: start}}
"""


def profiles(*, memory: str, reuse: int, direct: str = "test/test_direct.py") -> str:
    """Return profiles.yaml: tests run in `tiny`, those that match `direct` in `fast`."""
    return PROFILES.format(memory=memory, reuse=reuse, direct=direct)


def run(orch: Orch, *, expect: int) -> Mapping[str, Any]:
    """Run orch and return its tests by path. A promoted test makes the exit code 1."""
    words = ("run", "--offline-base", "--jobs", "1", "--format", "json")
    document = json.loads(orch(*words, expect=expect).stdout)
    return {test["path"]: test for test in document["tests"]}


def oversized_notices(test: Mapping[str, Any]) -> list[str]:
    violations = [violation for attempt in test["attempts"] for violation in attempt["violations"]]
    return [violation["message"] for violation in violations if violation["kind"] == "oversized"]


def advice(orch: Orch) -> dict[str, tuple[str, str, str]]:
    """Return for each test (advice, its profile now, the suggested one)."""
    found = json.loads(orch("profiles", "suggest", "--min-runs", "2", "--format", "json").stdout)
    return {one["test"]: (one["advice"], one["profile"], one["suggested"]) for one in found["suggestions"]}


def test_a_profile_that_was_too_small_is_not_advised_afterwards(
    make_project: Callable[[Mapping[str, str]], Orch],
) -> None:
    """A promoted test that then needs little gets no notice; the test beside it does."""
    files = {"test/test_once.py": ONCE_HUNGRY, "test/test_direct.py": TRIVIAL}
    orch = make_project({**files, "profiles.yaml": profiles(memory="24m", reuse=1000)})
    found = run(orch, expect=1)
    once, direct = found["test/test_once.py"], found["test/test_direct.py"]
    *killed, passed = [(one["profile"], one["outcome"]) for one in once["attempts"]]
    assert (set(killed), passed, once["verb"]) == ({("tiny", "oom")}, ("fast", "passed"), "UNDERSIZED")
    own = [test["attempts"][-1]["usage"]["memory_peak_bytes"] for test in (once, direct)]
    assert max(own) < 0.9 * (24 << 20), own  # so that the figures alone would advise `tiny`
    assert oversized_notices(once) == []
    assert len(oversized_notices(direct)) == 1
    assert "fast is larger than needed" in oversized_notices(direct)[0]
    assert "what tiny grants (24 MiB" in oversized_notices(direct)[0]

    # follow the advice; the next run knows the outcomes of the first one
    (orch.project / "profiles.yaml").write_text(profiles(memory="24m", reuse=1000, direct="test/*"))
    again = run(orch, expect=0)
    assert [one["profile"] for test in again.values() for one in test["attempts"]] == ["fast", "fast"]
    assert oversized_notices(again["test/test_once.py"]) == []
    assert len(oversized_notices(again["test/test_direct.py"])) == 1
    assert advice(orch) == {
        "test/test_once.py": ("fits", "fast", ""),
        "test/test_direct.py": ("smaller", "fast", "tiny"),
    }


def test_advice_for_a_profile_without_reuse_adds_the_memory_before_a_fork(
    make_project: Callable[[Mapping[str, str]], Orch],
) -> None:
    """A trivial forked file needs 8 MiB of its own; without a preloaded pytest it does not fit into 16 MiB."""
    files = {"test/test_t.py": TRIVIAL, "test/test_direct.py": TRIVIAL}
    orch = make_project({**files, "profiles.yaml": profiles(memory="16m", reuse=1)})
    for found in (run(orch, expect=1), run(orch, expect=1)):
        direct = found["test/test_direct.py"]["attempts"][-1]
        assert direct["slot"]["launch"] == "forked"
        assert direct["usage"]["memory_peak_bytes"] < 0.9 * (
            16 << 20
        )  # so that its figure alone would advise `tiny`
        assert [oversized_notices(test) for test in found.values()] == [[], []]
        outcomes = [(one["profile"], one["outcome"]) for one in found["test/test_t.py"]["attempts"]]
        assert outcomes == [("tiny", "oom"), ("fast", "passed")]
    assert advice(orch) == {
        "test/test_t.py": ("larger", "tiny", "fast"),
        "test/test_direct.py": ("fits", "fast", ""),
    }
