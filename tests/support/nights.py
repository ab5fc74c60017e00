"""Record nightly runs of an invented project through the real database, for trying the nightly report.

The result is the same for the same seed. A few tests are slow, flaky, newly failing, fixed, or use more than
before; the others do not change.
"""

from __future__ import annotations

import math
import random
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from orchestrator.model.evidence import Attestation, Launch, OutputLog, SlotUse, Timings
from orchestrator.model.outcomes import Outcome
from orchestrator.model.profiles import Limits, Network, Profile
from orchestrator.model.results import Attempt, TestResult, Verb
from orchestrator.model.runs import HostInfo, Ledger, Run, RunStatus
from orchestrator.model.usage import Sample, Source, Usage
from orchestrator.model.violations import Severity, Violation, ViolationKind
from tests.support import handmade
from tests.unit.database.database_examples import make_assignment, make_attempt

if TYPE_CHECKING:
    from orchestrator.database.store.store import Database

MIB = 1 << 20
AREAS = ("parser", "index", "storage", "net", "render", "query", "cache", "auth", "sched", "export")
WORDS = (
    "round_trip",
    "empty",
    "large_input",
    "unicode",
    "limits",
    "errors",
    "order",
    "concurrent",
    "resume",
    "types",
)
HOSTILE = (
    "test/</script><script>document.title='owned'</script>.py",
    "test/<img src=x onerror=\"document.title='owned'\">.py",
    "test/\"quote\" 'single' & amp;&lt;.py",
    "test/\u202egnp.evil\u202c.py",
    "test/control\x1b[31m\x00\x07\u2028line\u2029.py",
    "test/" + "long" * 3000 + ".py",
    "test/{{ 7 * 7 }}{% raw %}.py",
    "javascript:alert(1)",
    "test/]]><!--.py",
    "test/日本語とعربي.py",
)


def _limits(cpus: float, mib: int, seconds: float) -> Limits:
    return Limits(
        cpus=cpus,
        memory_bytes=mib * MIB,
        timeout_seconds=seconds,
        tmpfs_bytes=100 * MIB,
        tmpfs_inodes=10_000,
        outputs_bytes=64 * MIB,
        shm_bytes=16 * MIB,
        pids=128,
        nofile=1024,
        log_bytes=8 * MIB,
    )


PROFILES = {
    name: Profile(name=name, limits=_limits(*limits), network=Network.NONE, image="isolation")
    for name, limits in {
        "fast": (1.0, 128, 2.0),
        "standard": (2.0, 512, 10.0),
        "slow": (2.0, 1024, 60.0),
        "intensive": (4.0, 4096, 300.0),
    }.items()
}
ENGINE = replace(
    handmade.ENGINE,
    version="26.1.5",
    api_version="1.45",
    cgroup_version=2,
    cgroup_driver="systemd",
    cpus=8,
    memory_bytes=32 << 30,
    kernel="6.12.9",
    operating_system="Debian GNU/Linux 13",
)
HOST = HostInfo(id="5f3a9c", cpus=8.0, memory_bytes=32 << 30, kernel="6.12.9", python="3.13.1")


class Night:
    """Creates the tests of a project, the same ones for every night."""

    def __init__(self, *, tests: int, seed: int = 1, hostile: bool = False) -> None:
        self.random = random.Random(seed)
        names = [
            f"test/{'unit' if n % 5 else 'integration'}/{AREAS[n % 10]}"
            f"/test_{AREAS[n // 10 % 10]}_{WORDS[n // 7 % 10]}_{n}.py"
            for n in range(tests)
        ]
        self.names = [*HOSTILE, *names[len(HOSTILE) :]] if hostile else names
        self.hostile = hostile
        self.profile = [self.random.choices(tuple(PROFILES.values()), (60, 28, 9, 3))[0] for _ in self.names]
        self.size = [self.random.betavariate(1.6, 5) for _ in self.names]
        self.busy = [self.random.betavariate(1.3, 7) for _ in self.names]

    def record(self, db: Database, night: int, *, end: datetime, samples: bool, slots: int = 8) -> Run:
        """Record one run, `night` nights ago, with `slots` tests at a time."""
        began = end - timedelta(days=night, hours=2)
        run = Run(
            id=str(uuid.UUID(int=self.random.getrandbits(128), version=4)),
            started_at=began,
            argv=("orch", "run", "--preset", "ci", "test/"),
            project="warehouse",
            project_id="warehouse",
            config_digest="c0ffee1234",
            orch_version="0.1.0",
            engine=ENGINE,
            host=HOST,
            images={"isolation": "sha256:" + "12ab" * 16},
            revision="9f1c2e7d5b",
            branch="main",
            dirty=False,
        )
        db.begin_run(run, [])
        free = [0.0] * slots
        served = [0] * slots
        for n in sorted(
            range(len(self.names)), key=lambda n: -self.busy[n] * self.profile[n].limits.timeout_seconds
        ):
            place = min(range(slots), key=lambda s: free[s])
            served[place] += 1
            result = self._result(run, n, night, place, free[place], served[place], samples=samples)
            for attempt in result.attempts:
                free[place] += attempt.evidence.timings.test_seconds + 0.02
            db.record(run.id, result)
        ledger = Ledger(expected_containers=slots, created_containers=slots, removed_containers=slots)
        db.finish_run(
            run.id, status=RunStatus.FINISHED, exit_code=1, duration_seconds=max(free) + 1.2, ledger=ledger
        )
        return run

    def _result(
        self, run: Run, n: int, night: int, place: int, at: float, position: int, *, samples: bool
    ) -> TestResult:
        outcome, flaky = self._outcome(n, night)
        attempts = []
        if flaky:
            attempts.append(self._attempt(run, n, night, place, at, position, Outcome.FAILED, 1, samples=False))
            at += attempts[0].evidence.timings.test_seconds
        attempts.append(
            self._attempt(run, n, night, place, at, position, outcome, len(attempts) + 1, samples=samples)
        )
        verb = {Outcome.PASSED: Verb.PASS, Outcome.OOM: Verb.OOM, Outcome.TIMEOUT: Verb.TIMEOUT}.get(
            outcome, Verb.FAIL
        )
        return TestResult(
            attempts=tuple(attempts), outcome=outcome, verb=Verb.FLAKY if flaky else verb, flaky=flaky
        )

    def _outcome(self, n: int, night: int) -> tuple[Outcome, bool]:
        flaky, often = self.random.random() < 0.4, self.random.random() < 0.4
        return {
            5: (Outcome.FAILED if night == 0 else Outcome.PASSED, False),
            6: (Outcome.PASSED if night == 0 else Outcome.FAILED, False),
            7: (Outcome.OOM if night < 3 else Outcome.PASSED, False),
            8: (Outcome.TIMEOUT, False),
            9: (Outcome.PASSED, flaky),
            11: (Outcome.FAILED if often else Outcome.PASSED, False),
        }.get(n % 397, (Outcome.SKIPPED if n % 97 == 3 else Outcome.PASSED, False))

    def _attempt(
        self,
        run: Run,
        n: int,
        night: int,
        place: int,
        at: float,
        position: int,
        outcome: Outcome,
        attempt: int,
        *,
        samples: bool,
    ) -> Attempt:
        profile, noise = self.profile[n], self.random.uniform(0.92, 1.08)
        limits = profile.limits
        grown = 1.6 if n % 211 == 13 and night == 0 else 1.0
        memory = int(min(limits.memory_bytes * (0.06 + self.size[n]) * noise * grown, limits.memory_bytes))
        seconds = min(limits.timeout_seconds * self.busy[n] * self.random.uniform(0.85, 1.15) + 0.03, 20.0)
        if outcome is Outcome.OOM:
            memory = limits.memory_bytes
        if outcome is Outcome.TIMEOUT:
            seconds = limits.timeout_seconds + 0.1 if limits.timeout_seconds < 20 else 19.0
        cpu = seconds * self.random.uniform(0.3, 0.95) * min(limits.cpus, 2)
        throttled = seconds * 0.4 if n % 397 == 9 and outcome is Outcome.FAILED else seconds * 0.01
        points = self._samples(seconds, memory, cpu) if samples else ()
        usage = Usage(
            cpu_seconds=cpu,
            cpu_user_seconds=cpu * 0.8,
            cpu_system_seconds=cpu * 0.2,
            memory_peak_bytes=memory,
            memory_floor_bytes=3 * MIB,
            anon_peak_bytes=int(memory * 0.7),
            file_peak_bytes=int(memory * 0.2),
            pids_peak=1 + int(self.size[n] * 30),
            oom_kills=int(outcome is Outcome.OOM),
            throttled_seconds=throttled,
            read_bytes=int(self.size[n] * 9e6) if n % 3 == 0 else 0,
            write_bytes=int(self.busy[n] * 3e6) if n % 4 == 0 else 0,
            sources={"cpu_seconds": Source.KERNEL, "memory_peak_bytes": Source.KERNEL},
            missing={"swap_peak_bytes": "swap accounting is off"},
        )
        evil = "</script><img src=x onerror=alert(1)> \u202e\x1b]0;owned\x07" if self.hostile else ""
        return make_attempt(
            make_assignment(run, self.names[n], profile=profile, reason="rule profiles.yaml:14", attempt=attempt),
            outcome,
            id=str(uuid.UUID(int=self.random.getrandbits(128), version=4)),
            message="" if outcome is Outcome.PASSED else f"{evil}assertion failed: 3 != 4 in line {n % 90}",
            violations=self._violations(memory, limits.memory_bytes, n, night, evil),
            cases=(),
            usage=usage,
            samples=points,
            stdout=OutputLog(path=None, total_bytes=2000, kept_bytes=2000, tail=b""),
            stderr=OutputLog(path=None, total_bytes=0, kept_bytes=0, tail=b""),
            outputs=(),
            timings=Timings(
                queue_seconds=at,
                create_seconds=0.007,
                start_seconds=0.07,
                test_seconds=seconds,
                teardown_seconds=0.02,
            ),
            started_at=run.started_at + timedelta(seconds=at + 0.08),
            attestation=Attestation(
                container_name=f"orch-{run.short_id}-{place}-{position // 40}",
                container_id=f"{place}",
                image_id="sha256:" + "12ab" * 16,
            ),
            slot=SlotUse(position=1 + position % 40, launch=Launch.FORKED if n % 2 else Launch.PROCESS),
        )

    def _violations(self, memory: int, limit: int, n: int, night: int, evil: str) -> tuple[Violation, ...]:
        found = []
        if memory >= 0.9 * limit:
            found.append(
                Violation(
                    kind=ViolationKind.MEMORY_NEAR,
                    severity=Severity.WARNING,
                    measured=memory,
                    limit=0.9 * limit,
                    unit="bytes",
                    message=f"{evil}used {memory / limit:.0%} of its memory",
                )
            )
        if n % 401 == (17 if night else 18):
            found.append(
                Violation(
                    kind=ViolationKind.PROCESS_LEAK,
                    severity=Severity.ERROR,
                    measured=2,
                    limit=0,
                    unit="count",
                    message="left 2 processes: sleep 60, sleep 60",
                )
            )
        return tuple(found)

    def _samples(self, seconds: float, memory: int, cpu: float) -> tuple[Sample, ...]:
        count = max(3, min(int(seconds * 10), 120))
        points = []
        for k in range(count):
            part = k / (count - 1)
            level = (1 - math.exp(-4 * part)) * (1 + 0.05 * math.sin(14 * part)) / 1.03
            points.append(
                Sample(
                    at_seconds=round(part * seconds, 4),
                    memory_bytes=int(memory * level),
                    anon_bytes=int(memory * level * 0.7),
                    file_bytes=int(memory * 0.15),
                    cpu_seconds=cpu * part**1.2,
                    pids=1 + k % 4,
                )
            )
        return tuple(points)


def make_nights(
    db: Database, *, tests: int, nights: int, end: datetime | None = None, hostile: bool = False, seed: int = 1
) -> None:
    """Record `nights` runs of `tests` tests, the newest two hours before `end`; only the newest has samples."""
    night = Night(tests=tests, seed=seed, hostile=hostile)
    moment = end or datetime.now(tz=UTC)
    for ago in range(nights - 1, -1, -1):
        night.record(db, ago, end=moment, samples=ago == 0)
