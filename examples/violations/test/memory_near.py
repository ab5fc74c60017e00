"""memory-near: takes hold of 94 % of its memory limit and passes."""

import os
from pathlib import Path

names = ("memory.current", "memory/memory.usage_in_bytes")
usage = next(p for name in names if (p := Path("/sys/fs/cgroup") / name).exists())
held = []
while int(usage.read_text()) < 0.94 * int(os.environ["ORCH_MEMORY_LIMIT"]):
    held.append(bytearray(256 * 1024))
