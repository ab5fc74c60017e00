"""Make the plan of a run from the options: which tests, under which profile, and why."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from orchestrator.coordinator.process_limits import most_slots
from orchestrator.errors import NoTestsError, NothingFoundError, UsageError
from orchestrator.scheduling.admission import Budget
from orchestrator.scheduling.assign import assign
from orchestrator.scheduling.fresh_containers import all_fresh, guard_secrets
from orchestrator.scheduling.shards import (
    Shard,
    ShardBy,
    imbalance,
    parse_shard,
    partition_digest,
    select,
    shard_of_environment,
)
from orchestrator.suites.discover import discover
from orchestrator.suites.filters import parse_filter
from orchestrator.text import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from orchestrator.config.settings import Config
    from orchestrator.coordinator.options import Selection
    from orchestrator.model.runs import HostInfo
    from orchestrator.model.suites import LeftOut
    from orchestrator.model.tests import Assignment, History, Test, TestId


class EarlierRuns(Protocol):
    """Access to the results of earlier runs."""

    def history(self, test_ids: Iterable[TestId]) -> Mapping[TestId, History]:
        """Return the history of those tests that passed at least once in the last 30 days."""

    def failed(self, run_id: str) -> Iterable[TestId]:
        """Return the tests of an earlier run that did not pass, or were planned and not run."""


def find_test_id(ids: Iterable[str], name: str, *, missing: NothingFoundError) -> str:
    """Return the test id that is `name` or ends with it; an end at a folder boundary takes precedence.

    Raises `missing` if no id fits, UsageError if several do.
    """
    known = sorted(set(ids))
    if name in known:
        return name
    found = [one for one in known if one.endswith(f"/{name}")] or [one for one in known if one.endswith(name)]
    if not found:
        raise missing
    if len(found) > 1:
        some = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        raise UsageError(f"{name!r} is the end of several tests: {some}", remedy="write more of the path")
    return found[0]


def make_plan(
    options: Selection,
    config: Config,
    *,
    host: HostInfo,
    run_id: str,
    earlier: EarlierRuns | None,
    notice: Callable[[str], None],
    left_out: list[LeftOut] | None = None,
) -> tuple[Assignment, ...]:
    """Return the assignments of the selected tests, in the order of the tests.

    `earlier` gives access to earlier runs; None: there are none. Tests that were found and cannot run are added
    to `left_out`. Raises NoTestsError if a test that the options name cannot run.
    """
    left_out = [] if left_out is None else left_out
    wanted = parse_filter(options.filter_text) if options.filter_text else None
    shard = shard_wanted(options.shard, os.environ, notice)
    if options.only_profile is not None:
        _check_profile(options.only_profile, config)
    tests = discover(
        config.suites,
        options.paths,
        config.project_root,
        environ=os.environ,
        notice=notice,
        left_out=left_out.append,
    )
    if options.strict_selection and left_out:
        raise NoTestsError(
            f"{plural(len(left_out), 'test')} cannot run: {left_out[0].path!r}: {left_out[0].reason.value}",
            remedy="move or rename them, exclude them in their suite, or leave out --strict-selection",
        )
    if options.rerun is not None and earlier is not None:
        tests = _not_passed(tests, options.rerun, earlier)
    plan = assign(
        tests,
        rules=config.rules,
        profiles=config.profiles,
        default=config.default_profile,
        run_id=run_id,
        forced=options.profile,
        history={} if earlier is None else earlier.history([t.id for t in tests]),
        host=host,
        retries=config.run.retries,
        repeat=options.repeat or 1,
        strict_limits=config.run.strict_limits,
    )
    if options.only_profile is not None:
        plan = tuple(a for a in plan if a.profile.name == options.only_profile)
    if wanted is not None:
        plan = tuple(a for a in plan if wanted.matches(a.test, a.profile.name))
    if shard is not None:
        plan = sharded(plan, shard, options.shard_by, notice)
    plan = guard_secrets(plan, {suite.name for suite in config.suites if suite.pass_env})
    if options.fresh:
        plan = all_fresh(plan, "--fresh")
    return plan


def _check_profile(name: str, config: Config) -> None:
    from orchestrator.scheduling.assign import known_profile

    known_profile(name, config.profiles, "--only-profile")


def _not_passed(tests: tuple[Test, ...], run_id: str, earlier: EarlierRuns) -> tuple[Test, ...]:
    """Return those of the tests that did not pass in an earlier run, or were planned and not run."""
    failed = {str(test_id) for test_id in earlier.failed(run_id)}
    if not failed:
        raise NoTestsError(f"run {run_id} has no test to run again: all passed", remedy="orch run runs all tests")
    return tuple(t for t in tests if str(t.id) in failed)


def handle_empty_selection(config: Config, notice: Callable[[str], None]) -> None:
    """Raise NoTestsError, print a notice or do nothing, as `run.no_tests` says for an empty selection."""
    globs = ", ".join(glob for suite in config.suites for glob in suite.match)
    message = f"no tests selected in {config.project_root} (suites match: {globs or 'nothing'})"
    match config.run.no_tests:
        case "fail":
            raise NoTestsError(
                message, remedy="check the paths and filters with orch list, or pass --no-tests pass"
            )
        case "warn":
            notice(message)
        case "pass":
            pass


MAX_AUTO_SLOTS = 64
MEMORY_SHARE = 0.9
"""The share of the host's memory for tests. The rest is for the engine, orch and the page cache."""


def budget(config: Config, host: HostInfo, plan: Sequence[Assignment]) -> Budget:
    """Return how much may run at once. A number of jobs that the user gave takes precedence over the CPUs."""
    memory = int(host.memory_bytes * MEMORY_SHARE)
    if config.run.jobs is not None:
        # no test is given more CPUs than the host has, so this allows the requested number of tests
        return Budget(cpus=host.cpus * config.run.jobs, memory_bytes=memory, slots=config.run.jobs)
    return Budget(cpus=host.cpus, memory_bytes=memory, slots=min(MAX_AUTO_SLOTS, max(1, len(plan)), most_slots()))


def with_notice(plan: tuple[Assignment, ...], notice: str | None) -> tuple[Assignment, ...]:
    """Return the plan with a notice about its limits on each test; it is stored and shown with the result."""
    if notice is None:
        return plan
    return tuple(replace(assignment, clamped=(*assignment.clamped, notice)) for assignment in plan)


def shard_wanted(text: str | None, environ: Mapping[str, str], notice: Callable[[str], None]) -> Shard | None:
    """Return the shard that `m/n` means, or for `auto` the one in the variables of the CI system.

    Without the option these variables are ignored: a matrix of Python versions has them too, and each of its jobs
    must run all tests.
    """
    if not text:
        return None
    if text.strip().lower() != "auto":
        return parse_shard(text)
    shard = shard_of_environment(environ)
    if shard is None:
        notice("--shard auto: no variable of GitHub, GitLab or Buildkite names a shard; all tests are run")
    return shard


def sharded(
    plan: Sequence[Assignment], shard: Shard, by_name: str, notice: Callable[[str], None]
) -> tuple[Assignment, ...]:
    """Return the assignments of the shard. `notice` gets a line with the balance and the partition's digest."""
    by = ShardBy(by_name)
    part = select(plan, shard, by)
    known = sum(a.history is not None for a in plan)
    ratio = imbalance(plan, shard.count, by)
    balance = "" if ratio is None else f", the largest {ratio:.2f} of the mean"
    digest = partition_digest(plan, shard.count, by)
    notice(
        f"shard {shard.number}/{shard.count} by {by.value}: {len(part)} of {len(plan)} tests ({known} with "
        f"history){balance}; partition {digest}, which must be the same on all shards"
    )
    return part
