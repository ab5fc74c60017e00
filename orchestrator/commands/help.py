"""`orch help`: print a command's help, or a topic that belongs to no command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.coordinator.console import say
from orchestrator.errors import ExitCode, UsageError

if TYPE_CHECKING:
    import click

TOPICS = {
    "exit-codes": """\
0    all passed (flaky passes count unless --flaky-result fail)
1    tests failed
2    usage or configuration error, or a database that is not one of this orch
3    tests passed, but violations with --violations fail, or a gate of orch check is broken
4    no tests selected (--no-tests changes it), or what was asked for by name is not there or cannot run
36   the engine, a cgroup or an image failed: nothing is known about the tests concerned
37   a defect in orch itself
128+n ended by signal n
The gravest cause wins.""",
    "filters": """\
test(text)        the id contains text; a bare word means the same
test(=text)       the id is text
test(/regex/)     the id matches
test(#glob)       the id matches a glob
path(glob)  suite(name)  profile(name)  marker(name)
all()  none()     everything, nothing
not, and, or, parentheses; also ! & |

orch run -E 'profile(fast) and not test(parse)'""",
    "profiles": """\
A profile is a bundle of limits: cpus, memory, timeout, tmpfs, pids, network, image.
A test's profile is, in this order: --profile; the first rule of profiles.yaml that matches; a comment
"orch: profile=NAME" near the top of the test's file; its suite's profile; default_profile.
orch profiles show lists them, orch plan says which test gets which and why, orch init writes a profiles.yaml.""",
    "output": """\
PASS        passed                               TIMEOUT     ended at its profile's timeout
FAIL        failed                               OOM         killed for its memory, or a child was
FLAKY       failed, then passed                  CRASH       ended by a signal
SLOW        passed, near its timeout             LEAK        passed, and left something running
UNDERSIZED  passes in the next profile up        RUNAWAY     does not pass there either
INFRA       the engine failed: nothing is known  SKIP        skipped itself
OOM on a test that passed: the kernel killed a child of it. It counts as passed, and is a violation.
A line: verb, time, the test's own peak of memory against its limit (≤, ≥: a bound), CPU time, profile, test,
what stood charged before it (+33M shared), remark.
Reports go to stdout, logs to stderr. kill -USR1 asks a run what is running.""",
    "gates": """\
orch check compares a test's newest 3 to 5 runs with 20 to 50 runs of the baseline. A gate is broken if
- the most likely growth is above what is allowed, and above 1 MiB, 0.1 s or 0.05 CPU seconds, old runs
  carried forward along their own drift and each machine compared with itself;
- and the new runs are 400 times more likely with growth than without, by the noise that the old runs show.
With fewer runs growth is suspected at most. Only runs in which the test passed count, each once.
orch check --baseline main; orch check --save FILE writes a baseline that needs no database later.""",
    "environment": """\
A test sees its project read-only at the working directory, a writable /tmp, and a writable $ORCH_OUTPUT_DIR
whose files come back to .orch/runs/*/tests/*/outputs.
ORCH=1 ORCH_RUN_ID ORCH_TEST_ID ORCH_PROFILE ORCH_ATTEMPT ORCH_MEMORY_LIMIT ORCH_CPU_LIMIT, and Bazel's names:
TEST_TMPDIR TEST_TIMEOUT TEST_SHARD_INDEX TEST_TOTAL_SHARDS TEST_UNDECLARED_OUTPUTS_DIR XML_OUTPUT_FILE.
orch itself reads: DOCKER_HOST, NO_COLOR, and ORCH_* for each setting (orch show-config --origin);
ORCH_CONNECT_SECONDS (2) for an engine's first answer, ORCH_ENGINE_AWAY_SECONDS (300) for one that went away during
a run; on GitHub
GITHUB_ACTIONS, GITHUB_STEP_SUMMARY, RUNNER_TEMP; for --shard auto CI_NODE_INDEX and CI_NODE_TOTAL (from 1),
BUILDKITE_PARALLEL_JOB and _COUNT, STRATEGY_JOB_INDEX and STRATEGY_JOB_TOTAL (from 0).""",
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
        raise UsageError(f"no command or topic is called {topic!r}", remedy=f"topics: {known}; orch --help")
    with command.make_context(topic, ["--help"], parent=group, resilient_parsing=True) as made:
        say(command.get_help(made))
    return ExitCode.OK
