"""Assign a profile to each test, with the reason, and lower its limits to what the host has."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.errors import UsageError
from orchestrator.globs import compile_glob
from orchestrator.model.profiles import Rule
from orchestrator.model.tests import Assignment
from orchestrator.scheduling.fresh_containers import reason_for_fresh, with_fresh_reason
from orchestrator.text import two_sizes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestrator.model.profiles import Profile
    from orchestrator.model.runs import HostInfo
    from orchestrator.model.tests import History, Test, TestId

_NO_RULE = Rule()


def assign(
    tests: Iterable[Test],
    *,
    rules: Sequence[Rule],
    profiles: Mapping[str, Profile],
    default: str,
    run_id: str,
    forced: str | None,
    history: Mapping[TestId, History],
    host: HostInfo,
    retries: int,
    repeat: int,
    strict_limits: bool,
) -> tuple[Assignment, ...]:
    """Return one assignment for each test and repetition (1 to `repeat`), in the order of `tests`.

    The profile is the `forced` one, else that of the first matching rule, of the comment in the file, of the
    suite, or the default. A matching rule's own limits replace the profile's, unless the profile is forced. Where
    the profile has `reuse: auto`, tests that need one get a fresh container (`reason_for_fresh`). Raises
    UsageError for an unknown profile, and with `strict_limits` for one that is larger than the host.
    """
    if repeat < 1:
        raise UsageError(f"--repeat {repeat}: a test runs at least once")
    mapper = _Mapper(
        rules=rules, profiles=profiles, default=default, forced=forced, host=host, strict_limits=strict_limits
    )
    plan: list[Assignment] = []
    for test in tests:
        rule = next((rule for rule in rules if matches(rule, test)), _NO_RULE)
        choice = mapper.choose(test, rule)
        effective, notices = mapper.effective(choice, rule)
        reason, known = choice.reason, history.get(test.id)
        fresh = reason_for_fresh(effective, exclusive=rule.exclusive, history=known)
        if fresh is not None:
            effective, reason = mapper.fresh(effective), with_fresh_reason(reason, fresh)
        first = Assignment(
            run_id=run_id,
            test=test,
            profile=effective,
            reason=reason,
            clamped=notices,
            retries=retries if rule.retries is None else rule.retries,
            exclusive=rule.exclusive,
            group=rule.group,
            history=known,
        )
        plan.append(first)
        plan.extend(replace(first, repetition=number) for number in range(2, repeat + 1))
    return tuple(plan)


def matches(rule: Rule, test: Test) -> bool:
    """Return whether all conditions of the rule hold. A glob with `::` is matched against path and
    case together.
    """
    if rule.suite is not None and rule.suite != test.suite:
        return False
    if rule.marker is not None and rule.marker not in test.markers:
        return False
    if rule.match is None:
        return True
    text = str(test.id) if "::" in rule.match else test.id.path
    return compile_glob(rule.match).fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class _Choice:
    profile: Profile
    reason: str


class _Mapper:
    """Chooses profiles and computes their effective limits, each combination once."""

    def __init__(
        self,
        *,
        rules: Sequence[Rule],
        profiles: Mapping[str, Profile],
        default: str,
        forced: str | None,
        host: HostInfo,
        strict_limits: bool,
    ) -> None:
        self.profiles = profiles
        self.default = default
        self.forced = forced
        self.host = host
        self.strict_limits = strict_limits
        self.cache: dict[tuple[str, int], tuple[Profile, tuple[str, ...]]] = {}
        self._fresh: dict[int, Profile] = {}
        for rule in rules:  # checked even if they match no test
            if rule.profile is not None:
                self._profile(rule.profile, _rule_reason(rule))

    def choose(self, test: Test, rule: Rule) -> _Choice:
        """Return the profile of one test and the reason."""
        if self.forced is not None:
            return self._profile(self.forced, f"--profile {self.forced}")
        if rule.profile is not None:
            return self._profile(rule.profile, _rule_reason(rule))
        choice = self._without_rule(test)
        if (rule.cpus, rule.memory_bytes, rule.timeout_seconds) != (None, None, None):
            return replace(choice, reason=f"{choice.reason}; limits by {_rule_reason(rule)}")
        return choice

    def _without_rule(self, test: Test) -> _Choice:
        if test.profile_hint is not None:
            return self._profile(
                test.profile_hint, f"comment `orch: profile={test.profile_hint}` in {test.id.path}"
            )
        if test.suite_profile is not None:
            return self._profile(test.suite_profile, f"suite {test.suite}")
        return self._profile(self.default, "default profile")

    def effective(self, choice: _Choice, rule: Rule) -> tuple[Profile, tuple[str, ...]]:
        """Return the profile with the rule's limits, lowered to the host's, and a notice for each limit that was
        lowered.
        """
        if self.forced is not None:
            rule = _NO_RULE
        key = (choice.profile.name, id(rule))  # ids stay unique: the caller keeps the rules alive
        if key not in self.cache:
            self.cache[key] = self._clamp(_overridden(choice.profile, rule), choice.reason)
        return self.cache[key]

    def fresh(self, profile: Profile) -> Profile:
        """Return the profile of `effective` without reuse, always the same object."""
        return self._fresh.setdefault(id(profile), profile.fresh())

    def _profile(self, name: str, reason: str) -> _Choice:
        return _Choice(known_profile(name, self.profiles, reason), reason)

    def _clamp(self, profile: Profile, reason: str) -> tuple[Profile, tuple[str, ...]]:
        clamped, notices = clamp(profile, self.host)
        lowered = [notice for notice in notices if "this host" in notice]
        if lowered and self.strict_limits:
            raise UsageError(
                f"profile {profile.name!r} ({reason}) is larger than this host: {'; '.join(lowered)}",
                remedy="run without --strict-limits to lower the limits, or choose a smaller profile",
            )
        return clamped, notices


def known_profile(name: str, profiles: Mapping[str, Profile], reason: str) -> Profile:
    """Return the profile of that name. Raises UsageError if there is none; `reason` says what named it."""
    if name not in profiles:
        nearest = difflib.get_close_matches(name, profiles, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"known are {', '.join(sorted(profiles))}"
        raise UsageError(
            f"{reason}: unknown profile {name!r}: {hint}", remedy="`orch profiles show` lists the profiles"
        )
    return profiles[name]


def clamp(profile: Profile, host: HostInfo) -> tuple[Profile, tuple[str, ...]]:
    """Return the profile with its limits lowered to what the host grants, and a notice for each that
    was lowered.
    """
    limits, notices = profile.limits, []
    if limits.cpus > host.cpus:
        granted = f"{host.cpus:g}"
        notices.append(f"cpus {limits.cpus:g} -> {granted}: this host grants {granted}")
        limits = replace(limits, cpus=host.cpus)
    if limits.memory_bytes > host.memory_bytes:
        wanted, granted = two_sizes(limits.memory_bytes, host.memory_bytes)
        notices.append(f"memory {wanted} -> {granted}: this host grants {granted}")
        limits = replace(limits, memory_bytes=host.memory_bytes)
    if limits.nofile > host.nofile:
        notices.append(f"nofile {limits.nofile} -> {host.nofile}: this host grants {host.nofile}")
        limits = replace(limits, nofile=host.nofile)
    for name, label in (("tmpfs_bytes", "tmpfs"), ("outputs_bytes", "outputs"), ("shm_bytes", "shm")):
        size_bytes: int = getattr(limits, name)
        # A tmpfs counts as memory: filling a larger one would end in an OOM kill.
        if size_bytes > limits.memory_bytes:
            wanted, room = two_sizes(size_bytes, limits.memory_bytes)
            notices.append(f"{label} {wanted} -> {room}: it counts as memory, of which there is {room}")
            limits = replace(limits, **{name: limits.memory_bytes})
    return replace(profile, limits=limits), tuple(notices)


def _overridden(profile: Profile, rule: Rule) -> Profile:
    limits = profile.limits
    return replace(
        profile,
        limits=replace(
            limits,
            cpus=limits.cpus if rule.cpus is None else rule.cpus,
            memory_bytes=limits.memory_bytes if rule.memory_bytes is None else rule.memory_bytes,
            timeout_seconds=limits.timeout_seconds if rule.timeout_seconds is None else rule.timeout_seconds,
        ),
    )


def _rule_reason(rule: Rule) -> str:
    """Return the rule's conditions and place, as in `rule profiles.yaml:12: match test/unit/**, marker slow`."""
    given = {"match": rule.match, "marker": rule.marker, "suite": rule.suite}
    conditions = ", ".join(f"{name} {value}" for name, value in given.items() if value is not None)
    return f"rule {rule.place}".rstrip() + f": {conditions or 'every test'}"
