import signal
import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.stop_flag import StopFlag, StopLevel

levels = st.lists(st.sampled_from(list(StopLevel)), max_size=8)


@given(levels)
def test_the_level_is_the_highest_that_was_set(given_levels):
    flag = StopFlag()
    for level in given_levels:
        before = flag.level
        flag.set(level)
        assert flag.level >= before
    assert flag.level is max(given_levels, default=StopLevel.RUN)


def test_the_reason_is_the_first_one_of_the_highest_level_that_has_one():
    flag = StopFlag()
    assert flag.reason is None
    flag.set(StopLevel.DRAIN, "3 tests failed")
    flag.set(StopLevel.DRAIN, "later")
    assert flag.reason == "3 tests failed"
    flag.set(StopLevel.KILL)
    assert flag.reason == "3 tests failed"
    flag.set(StopLevel.TERMINATE, "lower than the level, so without effect")
    assert flag.reason == "3 tests failed"


def test_many_threads_cannot_lower_it():
    flag = StopFlag()
    barrier = threading.Barrier(8)

    def raise_to(level):
        barrier.wait()
        flag.set(level)

    threads = [threading.Thread(target=raise_to, args=(StopLevel(1 + n % 3),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert flag.level is StopLevel.KILL


def test_wait_gives_up_in_time():
    begun = time.monotonic()
    assert StopFlag().wait(0.02) is StopLevel.RUN
    assert time.monotonic() - begun >= 0.02


def test_wait_returns_at_once_when_the_level_is_there_already():
    flag = StopFlag()
    flag.set(StopLevel.TERMINATE)
    assert flag.wait(None) is StopLevel.TERMINATE


def test_wait_for_more_than_a_level_sleeps_through_it():
    flag = StopFlag()
    timers = [
        threading.Timer(0.01, flag.set, [StopLevel.DRAIN]),
        threading.Timer(0.05, flag.set, [StopLevel.TERMINATE]),
    ]
    for timer in timers:
        timer.start()
    assert flag.wait(5.0, above=StopLevel.DRAIN) is StopLevel.TERMINATE
    for timer in timers:
        timer.join()


def test_a_signal_handler_may_set_it_while_its_own_thread_waits():
    flag = StopFlag()
    before = signal.signal(signal.SIGALRM, lambda *_: flag.set(StopLevel.TERMINATE, "SIGALRM"))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        assert flag.wait(5.0) is StopLevel.TERMINATE
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert flag.reason == "SIGALRM"


def test_listeners_hear_each_rise_once_until_they_end():
    flag, heard = StopFlag(), []
    end = flag.listen(lambda: heard.append(flag.level))
    flag.set(StopLevel.DRAIN)
    flag.set(StopLevel.DRAIN)
    flag.set(StopLevel.TERMINATE)
    end()
    end()
    flag.set(StopLevel.KILL)
    assert heard == [StopLevel.DRAIN, StopLevel.TERMINATE]
