from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model.evidence import AgentRecord, Attestation, EngineState, Evidence, OutputLog, Timings
from orchestrator.model.outcomes import CaseOutcome, CaseResult, Outcome
from orchestrator.model.tests import Command
from orchestrator.model.usage import Usage
from orchestrator.verdict.outcome import Decision, decide

NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)
YEAR_ONE = datetime(1, 1, 1, tzinfo=UTC)
LOG = OutputLog(path=None, total_bytes=0, kept_bytes=0, tail=b"")
COMMAND = Command(argv=("sh", "test.sh"), skip_exit_codes=frozenset({5, 77}))
LIMIT = 64 << 20


def state(exit_code: int | None, **changes: object) -> EngineState:
    ended = EngineState(
        status="exited", exit_code=exit_code, started_at=NOW, finished_at=NOW + timedelta(seconds=1)
    )
    return replace(ended, **changes)


def ended(exit_code: int, *, oom_kills: int | None = 0, **changes: object) -> Evidence:
    """A test that ended with this code, by both witnesses."""
    evidence = Evidence(
        agent=AgentRecord(exit_code=exit_code),
        engine=state(exit_code),
        usage=Usage(oom_kills=oom_kills),
        stdout=LOG,
        stderr=LOG,
        timings=Timings(test_seconds=1.0),
        started_at=NOW,
    )
    return replace(evidence, **changes)


def decided(evidence: Evidence, *cases: CaseResult, problem: str | None = None) -> Decision:
    return decide(evidence, command=COMMAND, cases=cases, cases_problem=problem)


def case(outcome: CaseOutcome, message: str = "", name: str = "test_a") -> CaseResult:
    return CaseResult(name=name, outcome=outcome, message=message)


@pytest.mark.parametrize(
    ("evidence", "outcome", "signal"),
    [
        (ended(0), Outcome.PASSED, None),
        (ended(1), Outcome.FAILED, None),
        (ended(255), Outcome.FAILED, None),
        (ended(128), Outcome.FAILED, None),
        (ended(193), Outcome.FAILED, None),  # there is no signal 65
        (ended(192), Outcome.CRASHED, 64),
        (ended(139), Outcome.CRASHED, 11),
        (ended(77), Outcome.SKIPPED, None),
        (ended(137), Outcome.CRASHED, 9),  # H4: kills itself, nobody ran out of memory
        (ended(137, oom_kills=1), Outcome.OOM, 9),  # H2
        (ended(0, oom_kills=1), Outcome.PASSED, None),  # H3: the violation says so
        (ended(1, oom_kills=2), Outcome.FAILED, None),
        (ended(139, oom_kills=1), Outcome.CRASHED, 11),
        (ended(143, timed_out=True), Outcome.TIMEOUT, None),
        (ended(137, timed_out=True), Outcome.TIMEOUT, None),  # H10: our KILL after the grace
        (ended(0, timed_out=True), Outcome.TIMEOUT, None),
        (ended(137, timed_out=True, oom_kills=1), Outcome.OOM, 9),
        (ended(143, timed_out=True, oom_kills=1), Outcome.TIMEOUT, None),
        (ended(0, interrupted=True), Outcome.INTERRUPTED, None),
        (ended(0, interrupted=True, engine_failure="500"), Outcome.INTERRUPTED, None),
        (ended(0, timed_out=True, engine_failure="500"), Outcome.INFRA, None),
    ],
)
def test_by_exit_code(evidence: Evidence, outcome: Outcome, signal: int | None) -> None:
    decision = decided(evidence)
    assert (decision.outcome, decision.signal) == (outcome, signal)
    assert decision.witnesses == 2
    assert evidence.agent is not None
    assert decision.exit_code == evidence.agent.exit_code
    assert bool(decision.message) is (outcome is not Outcome.PASSED)


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        (None, "did not report"),
        (state(1), "two exit codes"),
        (state(None), "no exit code"),
        (state(0, status="created", started_at=None), "never started"),  # E4
        (state(0, status="created", error="exec: no such file"), "exec: no such file"),
        (state(0, status="running"), "is running"),
        (state(0, status="dead"), "is dead"),
        (EngineState(status="gone"), "removed externally"),  # E6
        (state(0, finished_at=YEAR_ONE), "does not report when"),
        (state(0, started_at=YEAR_ONE), "does not report when"),
        (state(0, finished_at=None), "does not report when"),
        (state(0, finished_at=NOW - timedelta(seconds=60)), "before it started"),
    ],
)
@pytest.mark.parametrize("with_agent", [True, False])
def test_missing_or_contradictory_witnesses_are_infra(
    engine: EngineState | None, says: str, with_agent: bool
) -> None:
    agent = AgentRecord(exit_code=0) if with_agent else None
    decision = decided(ended(0, engine=engine, agent=agent))
    assert decision.outcome is Outcome.INFRA
    assert says in decision.message or (not with_agent and "agent's end record" in decision.message)
    assert decision.witnesses == (engine is not None) + with_agent


def test_a_missing_end_record_is_infra() -> None:  # E1: a restarted engine says `Exited (0)`
    decision = decided(ended(0, agent=None))
    assert decision.outcome is Outcome.INFRA
    assert "ended without the agent's end record" in decision.message


@pytest.mark.parametrize(
    ("code", "kills", "outcome"),
    [(137, 1, Outcome.OOM), (137, 0, Outcome.INFRA), (0, 1, Outcome.INFRA), (137, None, Outcome.INFRA)],
)
def test_no_end_record_after_all_was_killed_for_memory(code: int, kills: int | None, outcome: Outcome) -> None:
    assert decided(ended(code, agent=None, oom_kills=kills)).outcome is outcome


@pytest.mark.parametrize(
    ("flag", "peak", "outcome"),
    [
        (True, LIMIT, Outcome.OOM),
        (True, LIMIT // 2, Outcome.CRASHED),  # the flag is known to lie
        (True, None, Outcome.CRASHED),
        (False, LIMIT, Outcome.CRASHED),
    ],
)
def test_where_no_counter_could_be_read(flag: bool, peak: int | None, outcome: Outcome) -> None:
    evidence = ended(
        137,
        engine=state(137, oom_killed=flag),
        usage=Usage(memory_charged_peak_bytes=peak),
        attestation=Attestation(container_name="a", container_id="b", image_id="c", effective_memory_bytes=LIMIT),
    )
    assert decided(evidence).outcome is outcome


def test_the_counter_outweighs_the_flag() -> None:
    evidence = ended(
        137,
        engine=state(137, oom_killed=True),
        usage=Usage(memory_peak_bytes=LIMIT, oom_kills=0),
        attestation=Attestation(container_name="a", container_id="b", image_id="c", effective_memory_bytes=LIMIT),
    )
    assert decided(evidence).outcome is Outcome.CRASHED


def test_an_image_without_a_shell_has_one_witness() -> None:
    decision = decided(ended(0, agent=None, agent_expected=False))
    assert (decision.outcome, decision.witnesses, decision.exit_code) == (Outcome.PASSED, 1, 0)
    assert decided(ended(3, agent=None, agent_expected=False)).message == "exit code 3"


@pytest.mark.parametrize(
    ("code", "cases", "problem", "outcome", "message"),
    [
        (0, [case(CaseOutcome.PASSED)], None, Outcome.PASSED, ""),
        (
            0,
            [case(CaseOutcome.PASSED)],
            "junit.xml is cut off",
            Outcome.FAILED,
            "junit.xml is cut off",
        ),  # H14
        (0, [case(CaseOutcome.ERROR, "boom")], None, Outcome.FAILED, "exit code 0, but test_a: boom"),
        (0, [case(CaseOutcome.SKIPPED, "no QEMU")], None, Outcome.SKIPPED, "no QEMU"),
        (0, [case(CaseOutcome.SKIPPED)] * 3, None, Outcome.SKIPPED, "all 3 cases skipped"),
        (0, [case(CaseOutcome.SKIPPED), case(CaseOutcome.XFAILED)], None, Outcome.PASSED, ""),
        (
            1,
            [case(CaseOutcome.PASSED), case(CaseOutcome.FAILED, "1 != 2")],
            None,
            Outcome.FAILED,
            "test_a: 1 != 2",
        ),
        (1, [case(CaseOutcome.PASSED)], None, Outcome.FAILED, "exit code 1"),
        (2, [], "no junit.xml", Outcome.FAILED, "exit code 2: no junit.xml"),
        (127, [], None, Outcome.FAILED, "exit code 127: the command was not found"),
    ],
)
def test_by_cases(code: int, cases: list[CaseResult], problem: str | None, outcome: Outcome, message: str) -> None:
    decision = decided(ended(code), *cases, problem=problem)
    assert decision.outcome is outcome
    assert decision.message == message


def test_messages_are_one_bounded_printable_line() -> None:
    nasty = case(CaseOutcome.FAILED, "a b\x1b[31m\0" + "x" * 100_000 + "\nnext line")
    message = decided(ended(1), nasty).message
    assert message.startswith(r"test_a: a b\x1b[31m\0xxx")
    assert len(message) < 400
    assert message.isprintable()


STATES = st.builds(
    EngineState,
    status=st.sampled_from(["exited", "exited", "created", "running", "gone"]),
    exit_code=st.sampled_from([None, 0, 1, 137]),
    oom_killed=st.booleans(),
    started_at=st.sampled_from([None, NOW, YEAR_ONE]),
    finished_at=st.sampled_from([None, NOW, NOW + timedelta(seconds=1), YEAR_ONE]),
)


@given(
    st.builds(
        ended,
        st.just(0),
        agent=st.one_of(st.none(), st.builds(AgentRecord, exit_code=st.sampled_from([0, 1, 137]))),
        engine=st.one_of(st.none(), STATES),
        oom_kills=st.sampled_from([None, 0, 1]),
        agent_expected=st.booleans(),
        timed_out=st.booleans(),
        interrupted=st.booleans(),
        engine_failure=st.sampled_from([None, "broken"]),
    )
)
def test_a_pass_has_all_its_witnesses(evidence: Evidence) -> None:
    decision = decided(evidence)
    if decision.outcome is Outcome.PASSED:
        assert evidence.engine is not None
        assert (evidence.engine.status, evidence.engine.exit_code) == ("exited", 0)
        assert evidence.engine.finished_at in {NOW, NOW + timedelta(seconds=1)}
        assert evidence.agent.exit_code == 0 if evidence.agent else not evidence.agent_expected
        assert not evidence.timed_out
        assert not evidence.interrupted
        assert evidence.engine_failure is None
    else:
        assert decision.message


def test_an_engine_that_notes_the_start_late_is_believed() -> None:  # a static program of 2 ms, Docker 20.10
    decision = decided(ended(0, engine=state(0, finished_at=NOW - timedelta(milliseconds=900))))
    assert decision.outcome is Outcome.PASSED
