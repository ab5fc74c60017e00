import threading

import pytest

from orchestrator.database.store.batch_timer import BatchTimer


def test_a_batch_is_flushed_once_in_time_and_the_next_again():
    flushed = threading.Semaphore(0)
    batches = BatchTimer(flushed.release, 0.01)
    for _ in range(3):
        batches.begin()
        assert flushed.acquire(timeout=10)
    batches.close()


def test_close_flushes_without_waiting():
    flushed = []
    batches = BatchTimer(lambda: flushed.append(1), 600)
    batches.begin()
    batches.close()
    assert flushed


def test_an_error_comes_out_where_results_come_in():
    def fail():
        raise OSError("no")

    batches = BatchTimer(fail, 0)
    batches.begin()
    with pytest.raises(OSError, match="no"):
        batches.close()
