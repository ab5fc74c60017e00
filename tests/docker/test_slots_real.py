"""Slots on a real engine: each way in which a test can end has its own outcome, and nothing is left."""

from __future__ import annotations

import os
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.engine.agent.output_reader import _TimedReader
from orchestrator.engine.docker.availability import EngineAvailability
from orchestrator.engine.images.pinned import PinnedImages
from orchestrator.engine.isolation.hardening import ContainerContext
from orchestrator.engine.labels import Owner, run_filter
from orchestrator.engine.slots.executor import LocalExecutor
from orchestrator.engine.slots.lane import SlotLane
from orchestrator.engine.slots.slot_factory import SlotFactory
from orchestrator.measure.cgroups import AGENT_FILES_V1, AGENT_FILES_V2
from orchestrator.measure.processes import owner_token
from orchestrator.measure.sampler import Sampler
from orchestrator.model.evidence import LeftoverProcess
from orchestrator.model.usage import Source
from orchestrator.stop_flag import StopFlag, StopLevel
from tests.support import said
from tests.support.cgroups import cgroups_named
from tests.support.handmade import OPEN_SECCOMP, make_assignment
from tests.support.load import busy_machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.engine.base import Engine
    from orchestrator.engine.slots.open_slot import OpenSlot
    from orchestrator.model.evidence import Evidence
    from orchestrator.model.tests import Assignment

pytestmark = pytest.mark.docker
MIB = 1 << 20


class Bench:
    """A run that takes shell text as a test and returns the evidence."""

    def __init__(self, engine: Engine, image: str, folder: Path, sampler: Sampler) -> None:
        self.engine = engine
        self.run_id = str(uuid.uuid4())
        self.folder = folder
        self.stop = StopFlag()
        project = folder / "project"
        project.mkdir()
        (project / "data").write_text("of the project\n")
        self.work = folder / "work"
        self.work.mkdir()
        version = engine.info.cgroup_version
        self.executor = LocalExecutor(
            SlotFactory(
                engine,
                availability=EngineAvailability(engine, self.stop),
                context=ContainerContext(
                    project_root=project,
                    state_dir=None,
                    seccomp=OPEN_SECCOMP,
                    counters=AGENT_FILES_V2 if version == 2 else AGENT_FILES_V1,
                ),
                owner=Owner(run_id=self.run_id, token=owner_token(), work_dir=str(self.work)),
                images={"tiny": image},
                sampler=sampler,
                work_dir=self.work,
            ),
            stop=self.stop,
        )
        self._numbers = iter(range(1, 100_000))

    def sh(self, text: str, *, once_said: Callable[[], object] | None = None, **changes: Any) -> Evidence:
        """Run shell text as a test; call `once_said` when it has written to its standard output."""
        number = next(self._numbers)
        place = self.folder / f"attempt-{number}"
        place.mkdir()
        assignment = make_assignment("sh", "-c", text, run_id=self.run_id, attempt=number, **changes)
        with nullcontext() if once_said is None else said.once_said(place / "stdout", once_said):
            return self.executor.run(assignment, 0.0, place)

    def sh_while_busy(self, loops: int, *tests: tuple[str, dict[str, Any]]) -> list[Evidence]:
        """Run shell texts at once while loops use the CPUs. Their slots are opened before that and removed after
        it, because the engine is slow then too.
        """
        assignments = [
            make_assignment("sh", "-c", text, run_id=self.run_id, path=f"t{number}.sh", **changes)
            for number, (text, changes) in enumerate(tests)
        ]
        slots = [self.executor.open(assignment) for assignment in assignments]
        with busy_machine(loops, seconds=60), ThreadPoolExecutor(len(slots)) as pool:
            found = list(pool.map(self._run_in, slots, assignments))
        for slot in slots:
            self.executor.close_slot(slot)
        return found

    def _run_in(self, slot: OpenSlot, assignment: Assignment) -> Evidence:
        place = self.folder / assignment.test.id.path
        place.mkdir()
        lane = SlotLane(self.executor.lane_context(), take=lambda _: slot, retire=lambda _: None)
        try:
            return lane.run(assignment, time.monotonic(), lambda _: place)
        finally:
            lane.close()

    def containers(self) -> list[str]:
        """Return the names of this run's containers."""
        return [found.name for found in self.engine.find(run_filter(self.run_id))]

    def traces(self) -> list[str]:
        """Return everything that is left of this run, except the /etc/hosts that its containers share, which is
        removed with the run's folder.
        """
        return [
            *self.containers(),
            *map(str, cgroups_named(f"orch[-_]{self.run_id[:8]}*")),
            *(str(p) for p in self.work.iterdir() if not p.name.startswith("orch-hosts-")),
        ]


@pytest.fixture(scope="module")
def sampler() -> Iterator[Sampler]:
    with Sampler() as started:
        yield started


@pytest.fixture(params=["fifos-ash", "attach-ash", "fifos-dash"])
def bench(
    request: pytest.FixtureRequest,
    engine: Engine,
    tmp_path: Path,
    sampler: Sampler,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Bench]:
    """Return a bench for each kind of the container's streams and for each shell."""
    streams, _, shell = request.param.partition("-")
    image = request.getfixturevalue("busybox_image" if shell == "ash" else "dash_image")
    if streams == "attach":
        monkeypatch.setenv("ORCH_STREAMS", "attach")
    else:
        monkeypatch.delenv("ORCH_STREAMS", raising=False)
    made = Bench(engine, image, tmp_path, sampler)
    yield made
    assert made.traces() == []
    assert made.executor.tally.expected == made.executor.tally.created == made.executor.tally.removed


def check_figures(evidence: Evidence) -> None:
    """Check that a test has all figures with their sources, however it ended."""
    usage = evidence.usage
    for name in ("cpu_seconds", "memory_peak_bytes", "pids_peak"):
        assert getattr(usage, name) is not None, (name, usage.missing)
        assert usage.sources[name] in (Source.KERNEL, Source.AGENT)
        assert name not in usage.missing
    assert usage.cpu_seconds is not None
    assert usage.cpu_seconds > 0
    assert usage.memory_peak_bytes is not None
    assert usage.memory_charged_peak_bytes is not None
    # a shell needs less than the batch that the kernel charges for each CPU
    assert 0 <= usage.memory_peak_bytes <= usage.memory_charged_peak_bytes <= 300 * MIB
    assert usage.memory_charged_peak_bytes > 64 << 10
    assert usage.pids_peak is not None
    assert 1 <= usage.pids_peak <= 64


def check_two_witnesses(evidence: Evidence, code: int) -> None:
    assert evidence.engine_failure is None
    assert evidence.agent is not None
    assert evidence.engine is not None
    assert (evidence.agent.exit_code, evidence.engine.exit_code, evidence.engine.status) == (code, code, "exited")
    assert evidence.engine.started_at is not None
    assert evidence.engine.finished_at is not None
    assert evidence.engine.started_at <= evidence.engine.finished_at


def test_a_pass_with_its_output_outputs_and_surroundings(bench: Bench) -> None:
    evidence = bench.sh(
        'cat data; pwd; id -u; id -g; echo "$ORCH_TEST_ID" "$MINE" >&2; mkdir $ORCH_OUTPUT_DIR/sub;'
        "echo kept >$ORCH_OUTPUT_DIR/sub/file; touch /work/x 2>/dev/null || echo read-only; env | grep -c NONCE",
        env={"MINE": 'a\'b "c"'},
    )
    check_two_witnesses(evidence, 1)  # grep found nothing
    assert evidence.stdout.tail == b"of the project\n/work\n1001\n1001\nread-only\n0\n"
    assert evidence.stderr.tail == b'tests/thing.sh a\'b "c"\n'
    assert evidence.stdout.path is not None
    assert evidence.stdout.path.read_bytes() == evidence.stdout.tail
    assert evidence.outputs == ("sub/file",)
    assert (evidence.stdout.path.parent / "outputs" / "sub" / "file").read_bytes() == b"kept\n"
    assert evidence.outputs_notes == ()
    assert not evidence.timed_out
    assert not evidence.interrupted
    assert evidence.usage.oom_kills == 0
    check_figures(evidence)
    attestation = evidence.attestation
    assert attestation is not None
    assert attestation.effective_memory_bytes == 64 * MIB
    assert attestation.effective_pids == 64
    assert attestation.effective_cpus == 1.0
    assert attestation.network == "none"
    assert attestation.seccomp == "profile"
    assert attestation.read_only_root is True
    assert attestation.user == "1001:1001"
    assert attestation.image_id == bench.executor.slots.images["tiny"]


@pytest.mark.parametrize("code", [0, 3, 255])
def test_exit_codes(bench: Bench, code: int) -> None:
    evidence = bench.sh(f"exit {code}")
    check_two_witnesses(evidence, code)
    check_figures(evidence)


def test_a_program_that_does_not_exist(bench: Bench) -> None:
    place = bench.folder / "none"
    place.mkdir()
    evidence = bench.executor.run(make_assignment("no-such-program", run_id=bench.run_id), 0.0, place)
    check_two_witnesses(evidence, 127)
    assert b"no-such-program" in evidence.stderr.tail


def test_a_folder_that_does_not_exist_and_a_variable_named_folder(bench: Bench) -> None:
    assert b"cannot enter /work/nowhere" in bench.sh("pwd", working_dir="nowhere").stderr.tail
    assert bench.sh("pwd", env={"folder": "/tmp"}).stdout.tail == b"/work\n"


def test_self_sigkill_is_not_oom(bench: Bench) -> None:
    evidence = bench.sh("kill -KILL $$")
    check_two_witnesses(evidence, 137)
    assert evidence.usage.oom_kills == 0
    check_figures(evidence)


EAT = "dd if=/dev/zero of=/dev/null bs=200M count=1"  # busybox allocates a block and fills it


def test_oom_of_the_main_process(bench: Bench) -> None:
    evidence = bench.sh(f"exec {EAT}")
    check_two_witnesses(evidence, 137)
    assert evidence.usage.oom_kills == 1
    check_figures(evidence)
    assert evidence.usage.memory_peak_bytes is not None
    assert evidence.usage.memory_peak_bytes > 60 * MIB


def test_oom_of_a_child_with_exit_0(bench: Bench) -> None:
    evidence = bench.sh(f"{EAT}; exit 0")
    check_two_witnesses(evidence, 0)
    assert evidence.usage.oom_kills == 1
    check_figures(evidence)


def test_timeout_of_a_test_that_ignores_term(bench: Bench) -> None:
    began = time.monotonic()
    evidence = bench.sh("trap '' TERM; echo before; while :; do sleep 0.1; done", timeout_seconds=1.0)
    assert time.monotonic() - began < 8
    assert evidence.timed_out
    check_two_witnesses(evidence, 137)
    assert evidence.stdout.tail == b"before\n"
    assert 1.4 <= evidence.timings.test_seconds < 5
    check_figures(evidence)


def test_timeout_of_a_test_that_obeys_term(bench: Bench) -> None:
    evidence = bench.sh("exec sleep 60", timeout_seconds=0.5)
    assert evidence.timed_out
    check_two_witnesses(evidence, 143)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may signal a container's processes from outside")
def test_a_timeout_starts_nothing_inside(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program started inside would be charged to the test: 12 ms of CPU time or more."""

    def refused(*_: object) -> None:
        raise AssertionError("something was run inside")

    monkeypatch.setattr(bench.engine, "run_inside", refused)
    evidence = bench.sh("trap '' TERM; sleep 60 & while :; do sleep 60; done", timeout_seconds=0.5)
    assert evidence.timed_out
    check_two_witnesses(evidence, 137)
    assert evidence.timings.test_seconds < 3


def test_timeout_of_a_test_that_stops_itself(bench: Bench) -> None:
    evidence = bench.sh("kill -STOP $$; echo awake", timeout_seconds=1.0)
    assert evidence.timed_out
    assert evidence.agent is not None
    assert evidence.agent.exit_code in (137, 143)
    assert evidence.stdout.tail == b""
    check_figures(evidence)


COUNT = "i=0; while [ $i -lt 120000 ]; do i=$((i+1)); done"
"""0.2 s of CPU time in either shell, and more on a busy machine, which has the caches cold."""


@pytest.mark.parametrize("pressure", [True, False], ids=["pressure", "no-pressure"])
def test_time_in_which_others_have_the_cpus_is_not_counted(
    bench: Bench, pressure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test that needs a third of its limit passes on a machine that gives it a tenth of a CPU (CASES A11). One
    that hangs is ended at its limit, and one that computes forever when it has used its limit.
    """
    monkeypatch.setattr("orchestrator.engine.agent.output_reader.MOST_GRANTED", 99.0)
    if not pressure:  # a kernel without pressure figures: psi=0
        monkeypatch.setattr("orchestrator.measure.cpu_wait._pressure_files", lambda _: [])
    works, hangs, spins = bench.sh_while_busy(
        16,
        (COUNT, {"timeout_seconds": 1.0}),
        ("sleep 60", {"timeout_seconds": 1.0}),
        ("while :; do :; done", {"timeout_seconds": 0.5}),
    )
    assert not works.timed_out, (works.timings, works.cpu_waited_seconds, works.usage.cpu_seconds)
    assert works.timings.test_seconds > 1.0, "the machine was not busy: this says nothing"
    assert works.cpu_waited_seconds is not None
    assert works.counted_seconds < 1.0 or not pressure
    assert hangs.timed_out
    assert not hangs.starved
    assert 1.0 <= hangs.timings.test_seconds < 4.0
    assert spins.timed_out
    assert not spins.starved
    assert spins.timings.test_seconds > 1.0


def test_a_test_that_ended_in_time_passes_if_orch_reads_its_end_late(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If orch itself got no CPU, it finds the test's end in the stream, where it was before the limit."""
    flush, naps = _TimedReader.flush, iter([2.0])

    def late(reading: _TimedReader) -> None:
        """Called when the streams had no data for a moment."""
        time.sleep(next(naps, 0.0))
        flush(reading)

    monkeypatch.setattr(_TimedReader, "flush", late)
    evidence = bench.sh("sleep 0.6; echo said; exit 3", timeout_seconds=1.5)
    assert next(naps, None) is None, "nobody was late: this says nothing"
    assert not evidence.timed_out
    check_two_witnesses(evidence, 3)
    monkeypatch.undo()
    flood = bench.sh("while :; do echo flood; done", timeout_seconds=1.0)
    assert flood.timed_out
    assert flood.timings.test_seconds < 8


def test_a_test_that_never_gets_a_cpu_is_starved(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extension of a limit is bounded; a test that is ended there got too little CPU and is not slow."""
    monkeypatch.setattr("orchestrator.engine.agent.output_reader.MOST_GRANTED", 0.5)
    (evidence,) = bench.sh_while_busy(16, ("while :; do :; done", {"timeout_seconds": 1.0}))
    assert evidence.timed_out
    assert evidence.starved
    assert "host busy: " in evidence.host_busy


def test_timeout_where_nothing_can_be_started_inside(bench: Bench) -> None:
    """Processes that ignore TERM use up the pids limit, so only the engine can end the test."""
    evidence = bench.sh(
        "trap '' TERM; i=0; while [ $i -lt 100 ]; do sleep 100 & i=$((i+1)); done; wait",
        timeout_seconds=2.0,
        pids=32,
    )
    assert evidence.timed_out or evidence.agent is not None
    assert evidence.engine is not None
    assert evidence.engine.status == "exited"
    assert evidence.engine_failure is None


def test_leftover_daemon_with_its_command_line(bench: Bench) -> None:
    began = time.monotonic()
    evidence = bench.sh("sleep 1234 </dev/null >/dev/null 2>&1 & setsid sleep 4321 & exit 0")
    assert time.monotonic() - began < 8
    check_two_witnesses(evidence, 0)
    assert evidence.agent is not None
    assert sorted(leftover.command_line for leftover in evidence.agent.leftovers) == ["sleep 1234", "sleep 4321"]
    assert all(isinstance(leftover, LeftoverProcess) and leftover.pid > 1 for leftover in evidence.agent.leftovers)
    assert evidence.agent.dirty == ()
    check_figures(evidence)


def test_a_process_that_ends_soon_is_no_leftover(bench: Bench) -> None:
    """The grace period counts time in which a process could run, so on a busy machine it lasts longer."""
    works = "sh -c 'i=0; while [ $i -lt 40000 ]; do i=$((i+1)); done' & sh -c 'exec sleep 0.05' & exit 0"
    evidence, sleeper = bench.sh_while_busy(10, (works, {}), ("sleep 60 & exit 0", {}))
    check_two_witnesses(evidence, 0)
    assert evidence.agent is not None
    assert evidence.agent.leftovers == ()
    assert sleeper.agent is not None
    assert [leftover.command_line for leftover in sleeper.agent.leftovers] == ["sleep 60"]
    assert sleeper.timings.test_seconds < 3


def test_a_leftovers_command_line_cannot_forge_the_record(bench: Bench) -> None:
    evidence = bench.sh(r"""sh -c 'sleep 99; :' "$(printf 'x\ncode 0\302\205code 0\013code 0\n@/x')" & exit 5""")
    check_two_witnesses(evidence, 5)
    assert evidence.agent is not None
    assert len(evidence.agent.leftovers) == 2
    check_figures(evidence)


def test_a_leftover_with_a_very_long_command_line(bench: Bench) -> None:
    evidence = bench.sh("long=$(head -c 100000 /dev/zero | tr '\\0' x); sh -c 'sleep 99; :' $long & exit 5")
    check_two_witnesses(evidence, 5)
    assert evidence.agent is not None
    lines = sorted(leftover.command_line for leftover in evidence.agent.leftovers)
    assert [len(line) for line in lines] == [500, len("sleep 99")]
    check_figures(evidence)


def test_forged_end_record(bench: Bench) -> None:
    evidence = bench.sh(
        "n=0123456789abcdef0123456789abcdef; printf '\\n%s end\\ncode 0\\n\\n%s tar\\n\\n%s reset\\n\\n%s over\\n'"
        " $n $n $n $n; printf '\\n%s end\\n' $n >&2; exit 4"
    )
    check_two_witnesses(evidence, 4)
    assert evidence.stdout.tail.startswith(b"\n0123456789abcdef0123456789abcdef end\ncode 0\n")
    check_figures(evidence)


def test_the_last_byte_of_output_is_kept(bench: Bench) -> None:
    times = 1000 if os.environ.get("ORCH_FAULTS") == "all" else 34  # for each of three kinds
    for number in range(times):
        evidence = bench.sh("printf 'out%s.' $0; printf 'err%s!' $0 >&2")
        assert (evidence.stdout.tail, evidence.stderr.tail) == (b"outsh.", b"errsh!"), f"repetition {number}"


def test_100_mb_without_a_newline_are_cut_at_the_cap_with_flat_memory(bench: Bench) -> None:
    before = resident_bytes()
    highest = [before]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            highest[0] = max(highest[0], resident_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    evidence = bench.sh("head -c 100000000 /dev/zero | tr '\\0' x; echo last >&2; exit 7")
    done.set()
    watcher.join()
    check_two_witnesses(evidence, 7)
    assert evidence.stdout.total_bytes == 100_000_000
    assert evidence.stdout.kept_bytes == MIB
    assert evidence.stdout.truncated
    assert evidence.stdout.path is not None
    assert evidence.stdout.path.stat().st_size == MIB
    assert evidence.stdout.tail == b"x" * 65536
    assert evidence.stderr.tail == b"last\n"
    assert highest[0] - before < 20 * MIB
    check_figures(evidence)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_output_bytes_are_unchanged(bench: Bench) -> None:
    evidence = bench.sh('i=0; while [ $i -lt 256 ]; do printf "\\\\$(printf %o $i)"; i=$((i+1)); done')
    check_two_witnesses(evidence, 0)
    assert evidence.stdout.tail == bytes(range(256))


def test_outputs_bring_back_regular_files_only(bench: Bench) -> None:
    evidence = bench.sh(
        "cd $ORCH_OUTPUT_DIR; echo good >good; ln -s /etc/shadow link; mkfifo fifo; printf x >'a\nnewline';"
        "dd if=/dev/zero of=zz-holes bs=1 count=0 seek=1099511627776 2>/dev/null; ls >&2"
    )
    check_two_witnesses(evidence, 0)
    assert b"zz-holes" in evidence.stderr.tail
    assert set(evidence.outputs) == {"good", "a\nnewline"}
    notes = "\n".join(evidence.outputs_notes)
    assert "'zz-holes': larger than" in notes
    assert "'link': not packed" in notes
    assert "'fifo': not packed" in notes
    assert len(evidence.outputs_notes) == 3
    assert evidence.stderr.path is not None
    back = list((evidence.stderr.path.parent / "outputs").glob("**/*"))
    assert {path.name for path in back} == set(evidence.outputs)
    assert all(path.is_file() and not path.is_symlink() and path.stat().st_size < 100 for path in back)


def test_outputs_without_holes(bench: Bench) -> None:
    evidence = bench.sh(
        "cd $ORCH_OUTPUT_DIR; echo good >good; ln -s /etc/shadow link; mkfifo fifo; mkdir -p a/b; : >a/b/-x"
    )
    assert evidence.outputs == ("a/b/-x", "good")
    notes = " ".join(evidence.outputs_notes)
    assert "'link': not a regular file" in notes
    assert "'fifo': not a regular file" in notes
    assert "damaged" not in notes


def test_a_fork_bomb_stays_within_its_pids(bench: Bench) -> None:
    evidence = bench.sh("bomb() { bomb | bomb & }; bomb 2>/dev/null; sleep 1; exit 6", timeout_seconds=10)
    assert evidence.engine_failure is None
    assert evidence.usage.pids_peak is not None
    assert evidence.usage.pids_peak <= 64
    assert evidence.engine is not None
    assert evidence.engine.status == "exited"
    assert evidence.agent is not None, "the agent did not live to tell"
    check_figures(evidence)


def test_leftovers_that_fill_the_pids_limit(bench: Bench) -> None:
    evidence = bench.sh(
        "i=0; while [ $i -lt 200 ]; do sleep 1000 & i=$((i+1)); done 2>/dev/null; exit 6", timeout_seconds=10
    )
    assert evidence.agent is not None, "the agent did not live to tell"
    assert len(evidence.agent.leftovers) > 50
    assert all(leftover.command_line in ("sleep", "sleep 1000") for leftover in evidence.agent.leftovers)
    assert not evidence.timed_out
    assert evidence.agent.dirty == ()
    assert evidence.usage.pids_limit_hits is not None
    assert evidence.usage.pids_limit_hits > 0


def test_a_container_that_somebody_else_removes(bench: Bench) -> None:
    removed: list[float] = []

    def remove() -> None:
        (name,) = bench.containers()
        removed.append(time.monotonic())
        bench.engine.remove(name)

    evidence = bench.sh("echo begun; exec sleep 90", once_said=remove, timeout_seconds=120.0)
    assert time.monotonic() - removed[0] < 15
    assert evidence.agent is None
    assert evidence.engine is not None
    assert evidence.engine.status == "gone"


def test_interrupted_by_the_stop_flag(bench: Bench) -> None:
    evidence = bench.sh("echo begun; exec sleep 30", once_said=lambda: bench.stop.set(StopLevel.TERMINATE))
    assert evidence.interrupted
    assert not evidence.timed_out
    check_two_witnesses(evidence, 143)
    assert evidence.stdout.tail == b"begun\n"


def test_killed_by_the_stop_flag(bench: Bench) -> None:
    text = "trap '' TERM; echo begun; while :; do sleep 0.1; done"
    evidence = bench.sh(text, once_said=lambda: bench.stop.set(StopLevel.KILL))
    assert evidence.interrupted
    assert evidence.agent is None
    assert evidence.engine is not None
    assert evidence.engine.exit_code == 137
    assert evidence.stdout.tail == b"begun\n"


def test_samples_of_a_longer_test(bench: Bench) -> None:
    if bench.executor.slots.engine.info.local is False:
        pytest.fail("these tests need a local engine")
    evidence = bench.sh(
        "dd if=/dev/zero of=/tmp/x bs=1M count=8 2>/dev/null; i=0; "
        "while [ $i -lt 200000 ]; do i=$((i+1)); done; sleep 0.5"
    )
    check_two_witnesses(evidence, 0)
    assert len(evidence.samples) >= 5
    times = [sample.at_seconds for sample in evidence.samples]
    assert times == sorted(times)
    assert max(sample.memory_bytes or 0 for sample in evidence.samples) > 8 * MIB
    assert max(sample.processes or 0 for sample in evidence.samples) >= 1
    assert max(sample.pids or 0 for sample in evidence.samples) >= 2
    assert evidence.usage.shmem_peak_bytes is None or evidence.usage.shmem_peak_bytes >= 8 * MIB


def test_an_image_that_does_not_exist_is_an_engine_failure(bench: Bench) -> None:
    bench.executor.slots.images = PinnedImages({"tiny": "sha256:" + "0" * 64})
    evidence = bench.sh("true")
    assert evidence.engine_failure is not None
    assert "was removed externally, and cannot be restored" in evidence.engine_failure
    assert evidence.agent is None
    bench.executor.tally.created = bench.executor.tally.removed = bench.executor.tally.expected


def test_a_missing_entrypoint_is_an_engine_failure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    made = bench.executor.slots.spec

    def broken(assignment: Any, **keywords: Any) -> Any:
        return replace(made(assignment, **keywords), entrypoint=("/no/such/shell",))

    monkeypatch.setattr(bench.executor.slots, "spec", broken)
    evidence = bench.sh("true")
    assert evidence.engine_failure is not None
    assert evidence.agent is None
    assert evidence.usage.missing
    bench.executor.tally.created = bench.executor.tally.removed = bench.executor.tally.expected
