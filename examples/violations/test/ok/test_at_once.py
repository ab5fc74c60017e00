"""Breaks no budget: what is opened or started at once and kept is no leak, nor is what pytest does itself."""

import threading
import time


def test_200_files_at_once() -> None:
    held = [open("/dev/null") for _ in range(200)]
    time.sleep(1.5)
    assert len(held) == 200
    for file in held:
        file.close()


def test_20_threads_at_once(tmp_path) -> None:
    done = threading.Event()
    for _ in range(20):
        threading.Thread(target=done.wait).start()
    (tmp_path / "note").write_text("x")
    time.sleep(1.5)
    done.set()
