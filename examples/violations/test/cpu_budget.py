"""cpu-budget: computes for longer than its thresholds allow."""

import time

while time.process_time() < 0.7:
    pass
