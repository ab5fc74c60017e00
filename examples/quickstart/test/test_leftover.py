# Ends as: passed, with a violation. A daemon with all its output closed is still there afterwards.
import subprocess


def test_leaves_a_daemon_behind():
    subprocess.Popen(
        ["sleep", "3600"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
