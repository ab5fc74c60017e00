"""What each kind of violation means and what can be done, for reports that explain themselves.

Kinds are added elsewhere; one that has no words here yet gets some made from its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class RuleText:
    """Plain sentences; no markup."""

    meaning: str
    advice: str


_RAISE = "Find out what needs it, or move the test to a larger profile in profiles.yaml."
_TEXTS: Mapping[str, RuleText] = {
    "memory-near": RuleText(
        "The test's peak memory came near the limit of its profile.",
        "A little more and the kernel kills it. " + _RAISE,
    ),
    "memory-over": RuleText("The test needed more memory than its profile allows.", _RAISE),
    "child-oom": RuleText(
        "The kernel killed a process of the test for want of memory, and the test did not say so.",
        "Its result cannot be trusted: make the test check how its children end. " + _RAISE,
    ),
    "cpu-budget": RuleText(
        "The test used more CPU seconds than the budget of its profile.",
        "Make it cheaper, or raise cpu_seconds under the profile's thresholds.",
    ),
    "cpu-throttled": RuleText(
        "The test was held back by its CPU limit for a large share of its duration.",
        "Its duration says little about its work. Give its profile more cpus, or let it start fewer threads.",
    ),
    "time-near": RuleText(
        "The test took nearly all of the time that its profile allows.",
        "On a busier machine it will time out. Make it faster, or move it to a profile with a longer timeout.",
    ),
    "time-over": RuleText(
        "The test did not end in time and was ended.",
        "See where it hangs, or move it to a profile with a longer timeout.",
    ),
    "pids-limit": RuleText(
        "The test had nearly as many processes and threads as its profile allows, or was refused one more.",
        "See whether it ends what it starts, or raise pids in its profile.",
    ),
    "process-leak": RuleText(
        "Processes of the test were still running when it had ended.",
        "Let the test end, and wait for, all that it starts.",
    ),
    "output-flood": RuleText(
        "The test wrote more output than is kept, or than is allowed.",
        "Let it write less, or raise log in its profile.",
    ),
    "object-leak": RuleText(
        "The test left containers, volumes or networks on the engine.",
        "Let the test remove what it creates; orch clean removes what is left.",
    ),
}


def rule_text(kind: str) -> RuleText:
    """Of a violation's kind, known here or not."""
    words = kind.replace("-", " ")
    return _TEXTS.get(kind) or RuleText(
        f"The test broke a budget of its profile: {words}.",
        "The message has the figure and the limit; thresholds stand in profiles.yaml.",
    )


def rule_name(kind: str) -> str:
    """`MemoryNear`: a readable identifier, as SARIF wants one (3.49.7)."""
    return "".join(word.capitalize() for word in kind.split("-"))
