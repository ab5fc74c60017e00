"""pids-limit: starts more processes than it may have, and is refused."""

import subprocess

started = []
try:
    while True:
        started.append(subprocess.Popen(["sleep", "60"]))
except OSError as error:
    print(f"after {len(started)} processes: {error}")
for process in started:
    process.kill()
    process.wait()
