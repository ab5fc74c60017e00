"""Choose the tests that get a container of their own although their profile reuses containers. Pure.

docs/design/engine/reuse-auto.md has the reasons.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.model.profiles import Network

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from orchestrator.model.profiles import Profile
    from orchestrator.model.tests import Assignment, History


def reason_for_fresh(profile: Profile, *, exclusive: bool, history: History | None) -> str | None:
    """Return why `reuse: auto` gives a test a fresh container; None if it may share one, or without `auto`."""
    if not profile.auto_reuse:
        return None
    if exclusive:
        return "it is exclusive"
    if profile.network is not Network.NONE:
        return "it has a network"
    if profile.capabilities:
        return "it has capabilities"
    if history is not None and history.unclean is not None:
        return f"in an earlier run it {history.unclean}"
    return None


def guard_secrets(plan: Sequence[Assignment], suites: Collection[str]) -> tuple[Assignment, ...]:
    """Return the plan with fresh containers for tests whose variables other tests must not see.

    `suites` names those that pass variables of the host to their tests. In a reused container a test can read the
    variables of the test after it (SECURITY.md), so under `reuse: auto` such tests share containers only if all
    tests of their profile are of their suite.
    """
    if not suites:
        return tuple(plan)
    users: dict[str, set[str]] = {}
    for one in plan:
        users.setdefault(one.profile.name, set()).add(one.test.suite)
    return _fresh_where(
        lambda one: one.profile.auto_reuse and one.test.suite in suites and len(users[one.profile.name]) > 1,
        plan,
        "its suite passes variables of the host",
    )


def all_fresh(plan: Sequence[Assignment], reason: str, *, only_auto: bool = False) -> tuple[Assignment, ...]:
    """Return the plan with a fresh container for each test; `reason` is added to that of each changed test.

    With `only_auto`, tests whose profile has a number for `reuse` stay as they are.
    """
    return _fresh_where(lambda one: one.profile.auto_reuse or not only_auto, plan, reason)


def _fresh_where(
    predicate: Callable[[Assignment], bool], plan: Sequence[Assignment], reason: str
) -> tuple[Assignment, ...]:
    """Return the plan with a fresh container for the tests that fit `predicate` and may share one now.

    Tests of one profile get the same new profile.
    """
    profiles: dict[int, Profile] = {}
    found: list[Assignment] = []
    for one in plan:
        if one.profile.reuse > 1 and predicate(one):
            profile = profiles.setdefault(id(one.profile), one.profile.fresh())
            found.append(replace(one, profile=profile, reason=with_fresh_reason(one.reason, reason)))
        else:
            found.append(one)
    return tuple(found)


def with_fresh_reason(reason: str, fresh: str) -> str:
    """Return the reason for a test's profile, with the reason for its fresh container."""
    return f"{reason}; a fresh container: {fresh}"
