"""`orch self-test`: test in real containers of each profile what their isolation prevents a test from doing."""

from __future__ import annotations

import time
import uuid
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from orchestrator.coordinator.console import note, say
from orchestrator.coordinator.environment import ensure_images_of, run_environment
from orchestrator.coordinator.session import load
from orchestrator.engine.docker.engine import open_engine
from orchestrator.engine.isolation.enforcement import require_enforced
from orchestrator.engine.self_test.runner import check_profile
from orchestrator.errors import ExitCode
from orchestrator.measure.processes import host_info
from orchestrator.reports.json_encoding import to_json
from orchestrator.scheduling.assign import clamp, known_profile
from orchestrator.text import plural

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.engine.self_test.cis_benchmark import Check
    from orchestrator.model.profiles import Profile

GROUPS = (
    "user and capabilities", "files and mounts", "size of /tmp", "setuid programs", "/proc and /sys", "devices",
    "network",    "environment", "system calls", "limits", "cgroups", "processes", "descriptors",
    "two containers",    "process limits", "settings from outside", "a container at all",
)  # fmt: skip
"""The names of the groups of checks, numbered from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of the self-test of one profile."""

    profile: str
    seconds: float
    checks: tuple[Check, ...]

    @property
    def all_proven(self) -> bool:
        """Return whether no check failed; checks that do not apply are left out."""
        return all(check.proven is not False for check in self.checks)


def self_test(
    *,
    config_path: Path | None,
    database: str | None,
    engine_url: str | None,
    profiles: tuple[str, ...],
    offline_base: bool,
    output_format: str,
    verbose: bool,
) -> int:
    """Run and print the checks of each profile. Return exit code 3 if one is not proven."""
    config = load(config_path, {} if database is None else {"database": database})
    chosen = [known_profile(name, config.profiles, "--profile") for name in profiles or sorted(config.profiles)]
    engine = open_engine(engine_url)
    require_enforced(engine.info, allow=False)
    host = host_info()
    images = ensure_images_of(config, {one.image for one in chosen}, engine, offline_base=offline_base)
    run_id = str(uuid.uuid4())
    results = []
    try:
        with run_environment(run_id, config, engine, images=images) as environment:
            for wanted in chosen:
                profile, notices = clamp(wanted, host)
                for text in notices:
                    note(text)
                began = time.monotonic()
                checks = check_profile(environment.executor, profile, run_id=run_id, work_dir=environment.work_dir)
                results.append(_result(profile, time.monotonic() - began, checks))
                if output_format == "table":
                    _table(results[-1], verbose=verbose)
    finally:
        engine.close()
    if output_format == "json":
        say(to_json({"schema": 1, "profiles": [_as_json(result) for result in results]}))
    return ExitCode.OK if all(result.all_proven for result in results) else ExitCode.VIOLATIONS


def _result(profile: Profile, seconds: float, checks: tuple[Check, ...]) -> Result:
    return Result(profile=profile.name, seconds=seconds, checks=checks)


def _as_json(result: Result) -> dict[str, object]:
    checks = [{**asdict(check), "title": GROUPS[check.group - 1]} for check in result.checks]
    return {
        "profile": result.profile,
        "seconds": round(result.seconds, 3),
        "proven": result.all_proven,
        "checks": checks,
    }


def _table(result: Result, *, verbose: bool) -> None:
    """Print a line for each group of checks and each check that failed; with `verbose`, for each check."""
    say(f"{result.profile}: {len(result.checks)} checks in {result.seconds:.1f} s")
    for group in sorted({check.group for check in result.checks}):
        checks = [check for check in result.checks if check.group == group]
        failed = [check for check in checks if check.proven is False]
        proven = sum(check.proven is True for check in checks)
        others = [check for check in checks if check.proven is None]
        word = "NOT PROVEN" if failed else "proven" if proven else "n/a"
        more = f", {len(others)} not applicable" if others else ""
        say(f"  {word:>10}  {group:>2} {GROUPS[group - 1]:<22} {plural(proven, 'check')} proven{more}")
        for check in checks if verbose else failed:
            mark = {True: "proven", False: "NOT PROVEN", None: "n/a"}[check.proven]
            tail = f" ({check.reason})" if check.reason else ""
            say(f"  {mark:>10}     {check.check}: {check.observed}{tail}")
