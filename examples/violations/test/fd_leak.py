"""fd-leak: opens file after file and closes none."""

import time

held = []
for _ in range(120):
    held.append(open("/dev/null"))
    time.sleep(0.02)
