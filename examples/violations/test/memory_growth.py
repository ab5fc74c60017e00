"""memory-growth: never gives anything back."""

import time

held = []
for _ in range(60):
    held.append(bytearray(512 * 1024))
    time.sleep(0.04)
