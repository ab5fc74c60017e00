"""Explanations of the kinds of violations: what each means and what to do. A kind without an explanation gets one
made from its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class RuleText:
    """Explanation of a kind of violation, in sentences without markup."""

    meaning: str
    advice: str


_RAISE = "Find out what needs it, or move the test to a larger profile in profiles.yaml."
_TEXTS: Mapping[str, RuleText] = {
    "memory-near": RuleText(
        "The test's peak memory was close to the limit of its profile.",
        "If it needs more, the kernel kills it. " + _RAISE,
    ),
    "memory-over": RuleText("The test needed more memory than its profile allows.", _RAISE),
    "child-oom": RuleText(
        "The kernel killed a process of the test at the memory limit, and the test did not fail.",
        "The result is not reliable: let the test check the exit status of its child processes. " + _RAISE,
    ),
    "cpu-budget": RuleText(
        "The test used more CPU seconds than its profile's threshold.",
        "Make it cheaper, or raise cpu_seconds under the profile's thresholds.",
    ),
    "cpu-throttled": RuleText(
        "The test was throttled by its CPU limit for a large share of its duration.",
        "Its duration depends on the limit. Give its profile more cpus, or start fewer threads.",
    ),
    "time-near": RuleText(
        "The duration was close to the timeout of the profile.",
        "On a busier machine it can time out. Make it faster, or move it to a profile with a longer timeout.",
    ),
    "time-over": RuleText(
        "The test reached its timeout and was stopped.",
        "Find out where it hangs, or move it to a profile with a longer timeout.",
    ),
    "pids-limit": RuleText(
        "The number of processes and threads was close to the limit of the profile, or the limit refused one.",
        "Check that the test ends the processes that it starts, or raise pids in its profile.",
    ),
    "process-leak": RuleText(
        "Processes of the test were still running after its end.",
        "Let the test end all processes that it starts, and wait for them.",
    ),
    "output-flood": RuleText(
        "The test wrote more output than orch keeps or the threshold allows.",
        "Write less output, or raise log in its profile.",
    ),
    "object-leak": RuleText(
        "The test left containers, volumes or networks on the engine.",
        "Let the test remove the objects that it creates; orch clean removes the remaining ones.",
    ),
}


def rule_text(kind: str) -> RuleText:
    """Return the explanation of a kind of violation."""
    words = kind.replace("-", " ")
    return _TEXTS.get(kind) or RuleText(
        f"The test exceeded a limit or threshold of its profile: {words}.",
        "The message has the figure and the limit. Thresholds are set in profiles.yaml.",
    )


def rule_name(kind: str) -> str:
    """Return a readable identifier such as `MemoryNear`, as SARIF asks for (3.49.7)."""
    return "".join(word.capitalize() for word in kind.split("-"))
