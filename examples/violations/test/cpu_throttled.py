"""cpu-throttled: wants a whole CPU and gets a tenth of one."""

import time

while time.process_time() < 0.15:
    pass
