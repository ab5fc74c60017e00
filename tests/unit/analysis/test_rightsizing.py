"""The smallest profile that suffices for a handmade history is suggested."""

import random
from dataclasses import replace

import pytest

from orchestrator.analysis import rightsizing
from orchestrator.analysis.rightsizing import kill_under
from orchestrator.model.outcomes import Outcome
from orchestrator.model.profiles import Limits, Network, Profile
from orchestrator.model.rightsizing import Advice, Observation, Observations
from orchestrator.model.tests import TestId

MIB = 1 << 20
TEST = TestId(path="test/test_a.py")


def profile(name, *, cpus=2.0, memory_mib=512, timeout=10.0, pids=128, tmpfs_mib=100, **other):
    limits = Limits(
        cpus=cpus,
        memory_bytes=memory_mib * MIB,
        timeout_seconds=timeout,
        tmpfs_bytes=tmpfs_mib * MIB,
        tmpfs_inodes=1000,
        outputs_bytes=64 * MIB,
        shm_bytes=16 * MIB,
        pids=pids,
        nofile=other.pop("nofile", 1024),
        log_bytes=MIB,
    )
    return Profile(name=name, limits=limits, network=Network.NONE, image=other.pop("image", "isolation"), **other)


FAST = profile("fast", cpus=1.0, memory_mib=128, timeout=2.0, pids=64)
STANDARD = profile("standard")
SLOW = profile("slow", memory_mib=1024, timeout=60.0, pids=256)
PROFILES = (FAST, STANDARD, SLOW)


def seen(number=0, *, memory_mib=50.0, seconds=0.5, cpu=0.2, outcome=Outcome.PASSED, under=STANDARD, **other):
    return Observation(
        run_id=other.pop("run_id", f"run{number}"),
        outcome=outcome,
        duration_seconds=seconds,
        cpu_seconds=cpu,
        memory_peak_bytes=None if memory_mib is None else int(memory_mib * MIB),
        pids_peak=other.pop("pids_peak", 3),
        limit_cpus=under.limits.cpus,
        limit_memory_bytes=under.limits.memory_bytes,
        limit_timeout_seconds=under.limits.timeout_seconds,
        **other,
    )


def suggest(history, *, current=STANDARD, profiles=PROFILES, **options):
    return rightsizing.suggest(TEST, Observations.of(history), current=current, profiles=profiles, **options)


def advice(history, current=STANDARD, **options):
    return suggest(history, current=current, **options)


def need_of(history, *, cpus):
    return rightsizing.need_of(Observations.of(history), cpus=cpus)


def seconds_under(one, cpus):
    return rightsizing.seconds_under(one.duration_seconds, one.cpu_seconds, had=one.limit_cpus, cpus=cpus)


def twelve(**values):
    return [seen(number, **values) for number in range(12)]


def test_a_small_test_is_moved_down():
    found = advice(twelve())
    assert (found.advice, found.suggested, found.runs) == (Advice.SMALLER, "fast", 12)
    assert found.saved_memory_bytes == 384 * MIB
    assert (found.saved_cpus, found.saved_timeout_seconds) == (1.0, 8.0)
    assert found.need.memory_bytes == round(57.5 * MIB)


def test_too_few_runs_say_how_many_are_missing():
    found = advice([seen(number) for number in range(7)])
    assert (found.advice, found.suggested, found.runs, found.missing_runs) == (Advice.UNKNOWN, None, 7, 3)
    assert found.reason == "3 more runs are needed"


def test_runs_count_and_not_attempts():
    assert advice([seen(0, run_id="one") for _ in range(50)]).missing_runs == 9


def test_unmeasured_memory_is_no_run():
    found = advice(twelve(memory_mib=None))
    assert found.missing_runs == 10
    assert "not measured in 12" in found.reason


def test_failures_of_the_engine_do_not_count():
    lost = [
        seen(99, memory_mib=900, seconds=99, outcome=outcome) for outcome in (Outcome.INFRA, Outcome.INTERRUPTED)
    ]
    assert advice([*twelve(), *lost]).suggested == "fast"


@pytest.mark.parametrize(("memory_mib", "suggested"), [(111, "fast"), (112, None)])
def test_one_high_peak_decides_with_its_margin(memory_mib, suggested):
    assert advice([*twelve(), seen(20, memory_mib=memory_mib)]).suggested == suggested


def test_after_an_oom_the_margin_is_a_quarter():
    killed = seen(20, memory_mib=128, outcome=Outcome.OOM, under=FAST, oom_kills=1)
    assert need_of([*twelve(), killed], cpus=1.0).memory_bytes == 160 * MIB
    found = advice([*twelve(), killed], current=FAST)
    assert (found.advice, found.suggested) == (Advice.LARGER, "standard")
    assert "out of memory 1 times" in found.reason
    assert found.saved_memory_bytes == -384 * MIB


def test_a_child_killed_in_a_test_that_passed_counts_too():
    assert need_of([*twelve(), seen(20, memory_mib=100, oom_kills=1)], cpus=2.0).memory_bytes == 640 * MIB


def test_the_timeout_has_margins_on_p99_and_longest_duration():
    history = [seen(number, seconds=1.0) for number in range(300)]
    assert need_of(history, cpus=2.0).timeout_seconds == 1.5
    assert need_of([*history, seen(999, seconds=3.0)], cpus=2.0).timeout_seconds == pytest.approx(3.45)


def test_fewer_cpus_make_parallel_work_longer():
    beside = seen(seconds=1.0, cpu=2.0)
    assert seconds_under(beside, 1.0) == 2.0  # all of it on both CPUs
    assert seconds_under(seen(seconds=1.0, cpu=0.2), 1.0) == pytest.approx(1.1)
    assert seconds_under(replace(beside, cpu_seconds=None), 1.0) == 2.0
    assert seconds_under(beside, 4.0) == 1.0
    assert advice(twelve(seconds=1.0, cpu=1.9)).suggested is None  # p95 of 1.9 CPUs
    assert advice(twelve(seconds=1.3, cpu=1.2)).suggested is None  # 1.9 s at worst under one CPU
    assert advice(twelve(seconds=1.0, cpu=0.5)).suggested == "fast"


def test_a_timeout_keeps_what_it_had_and_a_throttled_one_gets_more():
    hung = seen(20, seconds=10.0, outcome=Outcome.TIMEOUT, throttled_seconds=0.1)
    assert advice([*twelve(), hung]).advice is Advice.FITS
    starved = replace(hung, throttled_seconds=5.0)
    assert advice([*twelve(), starved]).suggested == "slow"


def test_no_profile_suffices():
    found = advice(twelve(memory_mib=1000), current=SLOW)
    assert (found.advice, found.suggested) == (Advice.NONE_HOLDS, None)
    assert found.reason.startswith("memory 1 GiB is less than 1.1 GiB")


def test_a_profile_with_another_image_is_not_suggested():
    other = replace(FAST, name="other", image="full")
    assert suggest(twelve(), current=STANDARD, profiles=(other, STANDARD)).advice is Advice.FITS


def test_what_is_not_measured_is_not_lowered():
    roomy = profile("roomy", tmpfs_mib=100)
    tight = profile("tight", memory_mib=256, tmpfs_mib=50)
    assert suggest(twelve(), current=roomy, profiles=(tight,)).advice is Advice.FITS  # 57.5 MiB may be in /tmp
    assert suggest(twelve(memory_mib=40), current=roomy, profiles=(tight,)).suggested == "tight"
    assert advice(twelve(pids_peak=None)).suggested is None
    assert advice(twelve(pids_limit_hits=1)).suggested is None
    assert advice(twelve(cpu=None)).suggested is None


def test_a_rule_s_own_limits_can_be_dropped():
    raised = replace(FAST, limits=replace(FAST.limits, memory_bytes=2048 * MIB))
    found = advice(twelve(), current=raised)
    assert (found.advice, found.suggested, found.saved_memory_bytes) == (Advice.SMALLER, "fast", 1920 * MIB)


def test_upper_bounds_count_only_without_an_exact_peak():
    """CASES B9: an upper bound that another test in the container caused is not a need."""
    bound = seen(20, memory_mib=120, memory_peak_is_upper_bound=True, under=FAST)
    assert need_of([*twelve(memory_mib=20), bound], cpus=1.0).memory_bytes == 23 * MIB
    assert advice([*twelve(memory_mib=20, under=FAST), bound], current=FAST).advice is Advice.FITS
    assert need_of([bound], cpus=1.0).memory_bytes == 138 * MIB


def test_a_forked_test_needs_a_runner_of_its_own_in_a_profile_without_reuse():
    reused = replace(FAST, reuse=100)
    forked = twelve(memory_mib=80, memory_floor_bytes=40 * MIB, launch="forked", under=reused)
    assert suggest(forked, current=reused, profiles=()).advice is Advice.FITS
    assert suggest(forked, current=reused, profiles=()).need.memory_bytes == 92 * MIB
    alone = suggest(forked, current=FAST, profiles=())
    assert (alone.advice, alone.need.memory_bytes) == (Advice.NONE_HOLDS, 138 * MIB)


def test_notes_name_limits_that_are_not_measured():
    reused = replace(FAST, reuse=100, limits=replace(FAST.limits, nofile=64))
    found = suggest(twelve(), current=STANDARD, profiles=(reused,))
    assert found.reason == (
        "open files are not measured exactly: their limit falls to 64; its containers are reused"
    )


def test_what_is_suggested_kills_nothing_of_the_history():
    chance = random.Random(5)
    moved = 0
    for _ in range(300):
        history = [
            seen(
                number,
                memory_mib=chance.paretovariate(1.5) * 30,
                seconds=(seconds := chance.lognormvariate(-1, 1)),
                cpu=seconds * chance.uniform(0, 2),
                under=SLOW,
            )
            for number in range(chance.randint(10, 150))
        ]
        found = advice(history, current=SLOW)
        if found.suggested:
            limits = next(p for p in PROFILES if p.name == found.suggested).limits
            moved += 1
            assert not any(kill_under(one, limits) for one in history)
    assert moved > 50
