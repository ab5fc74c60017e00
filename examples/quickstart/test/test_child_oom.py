# Ends as: passed, with a violation. A child was killed for its memory, and the test did not care.
import subprocess
import sys

GREEDY = """
taken = []
for _ in range(128):
    taken.append(bytearray(b"x" * 8 * 2**20))
"""


def test_does_not_look_at_its_child():
    subprocess.run([sys.executable, "-c", GREEDY], check=False, stderr=subprocess.DEVNULL)
