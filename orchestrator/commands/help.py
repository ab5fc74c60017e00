"""`orch help`: print a command's help, or a topic that belongs to no command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.coordinator.console import say
from orchestrator.errors import ExitCode, UsageError

if TYPE_CHECKING:
    import click

TOPICS = {
    "exit-codes": """\
0      all tests passed (a flaky test counts as passed unless --flaky-result fail)
1      tests failed
2      usage or configuration error, or a database that orch cannot use
3      tests passed, but there are violations (with --violations fail) or resource regressions (orch check)
4      no tests selected (--no-tests changes this), or a test that was named does not exist or cannot run
36     the engine, a cgroup or an image failed, so the results of some tests are unknown
37     a defect in orch itself
128+N  ended by signal N

If several apply, the first in this order counts: 128+N, 36, 1, 4, 3.""",
    "filters": """\
orch run -E 'profile(fast) and not test(parse)'

test(TEXT)     the id contains TEXT; a bare word means the same
test(=TEXT)    the id is TEXT
test(/REGEX/)  the id matches a regular expression
test(#GLOB)    the id matches a glob
path(GLOB)     the path of the test file matches a glob
suite(NAME)    the test belongs to this suite
profile(NAME)  the test is assigned this profile
marker(NAME)   the test has this marker
all()  none()  every test, no test

Combine them with not, and, or and parentheses, or with ! & |.""",
    "profiles": """\
A profile is a set of limits and settings: cpus, memory, timeout, tmpfs, pids, network, image.

A test gets the first of these:
1. --profile
2. the profile of the first rule in profiles.yaml that matches
3. a comment "orch: profile=NAME" near the top of the test file
4. the profile of its suite
5. default_profile

orch profiles show lists the profiles.
orch plan shows which test gets which profile, and why.
orch init writes a profiles.yaml.""",
    "output": """\
PASS        passed
SLOW        passed, near its timeout
LEAK        passed, but left something running
FLAKY       failed, then passed
FAIL        failed
TIMEOUT     ended at the timeout of its profile
OOM         the kernel killed the test, or a child of it, because of its memory
CRASH       ended by a signal
UNDERSIZED  passes only with the next larger profile
RUNAWAY     does not pass with the next larger profile either
INFRA       the engine failed, so the result is unknown
SKIP        skipped by the test itself

A test that passed although a child of it was killed is shown as OOM. It counts as passed, with a violation.

A line has: result, time, peak memory of the test / limit (≤ and ≥ mark a bound), CPU time, profile, test, memory
that was already charged before the test (such as +33M shared), message.

Reports go to stdout, other messages to stderr. kill -USR1 PID prints the running tests.""",
    "gates": """\
orch check --baseline main      compare with the runs of a branch
orch check --save FILE          write a baseline that needs no database later

The newest 3 to 5 runs of a test are compared with 20 to 50 runs of the baseline. A test has a resource regression
if both are true:
- The most likely growth is above the allowed growth, and above 1 MiB, 0.1 s or 0.05 CPU seconds. A trend in the
  old runs is continued, and runs are compared with runs of the same machine.
- By the noise of the old runs, the new runs are 400 times more likely with this growth than without.
With fewer runs growth is only suspected. Only runs in which the test passed count.""",
    "environment": """\
A test gets:
  working directory   the project, read-only
  /tmp                writable
  $ORCH_OUTPUT_DIR    writable; its files are copied to .orch/runs/*/tests/*/outputs
  variables of orch   ORCH=1 ORCH_RUN_ID ORCH_TEST_ID ORCH_PROFILE ORCH_ATTEMPT ORCH_MEMORY_LIMIT ORCH_CPU_LIMIT
  variables of Bazel  TEST_TMPDIR TEST_TIMEOUT TEST_SHARD_INDEX TEST_TOTAL_SHARDS TEST_UNDECLARED_OUTPUTS_DIR
                      XML_OUTPUT_FILE

orch reads:
  DOCKER_HOST               address of the engine
  NO_COLOR                  no colours
  ORCH_CONFIG               path of profiles.yaml
  settings                  ORCH_DB ORCH_DEFAULT_PROFILE ORCH_FAILURE_OUTPUT ORCH_FLAKY_RESULT ORCH_JOBS
                            ORCH_MAX_FAIL ORCH_NO_TESTS ORCH_RETRIES ORCH_SECCOMP ORCH_STATE_DIR
                            ORCH_STRICT_LIMITS ORCH_SUCCESS_OUTPUT ORCH_TIMEOUT ORCH_VIOLATIONS
  ORCH_CONNECT_SECONDS      how long to wait for the first answer of an engine (2)
  ORCH_ENGINE_AWAY_SECONDS  how long to wait for an engine that goes away during a run (300)
  on GitHub                 GITHUB_ACTIONS GITHUB_STEP_SUMMARY RUNNER_TEMP
  for --shard auto          CI_NODE_INDEX CI_NODE_TOTAL (from 1), BUILDKITE_PARALLEL_JOB
                            BUILDKITE_PARALLEL_JOB_COUNT STRATEGY_JOB_INDEX STRATEGY_JOB_TOTAL (from 0)""",
}


def help_topic(context: click.Context, topic: str | None) -> int:
    """Print a topic or a command's help; without a name, print the list of topics."""
    group = context.parent
    if group is None:
        return ExitCode.DEFECT
    if topic is None:
        say(group.get_help())
        say(f"\nTopics: {', '.join(sorted(TOPICS))} (orch help TOPIC)")
        return ExitCode.OK
    if topic in TOPICS:
        say(TOPICS[topic])
        return ExitCode.OK
    import click

    command = group.command.get_command(group, topic) if isinstance(group.command, click.Group) else None
    if command is None:
        known = ", ".join(sorted(TOPICS))
        raise UsageError(
            f"there is no command or topic {topic!r}", remedy=f"topics: {known}; orch --help lists the commands"
        )
    with command.make_context(topic, ["--help"], parent=group, resilient_parsing=True) as made:
        say(command.get_help(made))
    return ExitCode.OK
