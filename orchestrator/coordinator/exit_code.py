"""The exit code of `orch run`, from the results of the run or from the error that ended it."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from orchestrator.errors import ExitCode, OrchError
from orchestrator.model.outcomes import Outcome

if TYPE_CHECKING:
    from orchestrator.config.settings import Config
    from orchestrator.model.runs import Ledger
    from orchestrator.reports.run_summary import ResultTotals
    from orchestrator.scheduling.scheduler import Schedule

SIGNALLED = 128
"""Exit codes above this one mean that a signal ended the run: 128 plus its number, as in shells."""


def exit_code_of_error(error: BaseException) -> int:
    """Return the exit code with which `cli.main` ends on this error."""
    match error:
        case OrchError():
            return error.exit_code
        case BrokenPipeError():
            return SIGNALLED + signal.SIGPIPE
        case KeyboardInterrupt():
            return SIGNALLED + signal.SIGINT
        case _:
            return ExitCode.DEFECT


def exit_code(
    totals: ResultTotals,
    going: Schedule,
    *,
    config: Config,
    signal_number: int | None,
    ledger: Ledger,
) -> int:
    """Return the exit code of a run. The first cause that applies wins, in this order: a signal, an engine
    failure, failed tests, cases that do not exist, violations.
    """
    if signal_number is not None:
        return SIGNALLED + signal_number
    if totals.outcomes[Outcome.INFRA] or ledger.left:
        return ExitCode.INFRA
    flaky = totals.flaky_tests if config.run.flaky_result == "fail" else 0
    if totals.failed_tests or going.not_run or flaky:
        return ExitCode.TESTS_FAILED
    if totals.absent_tests:
        return ExitCode.NO_TESTS
    if config.run.violations == "fail" and totals.serious_violations:
        return ExitCode.VIOLATIONS
    return ExitCode.OK
