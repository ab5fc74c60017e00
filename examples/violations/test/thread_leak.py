"""thread-leak: starts thread after thread, and none ends before the test."""

import threading
import time

done = threading.Event()
for _ in range(40):
    threading.Thread(target=done.wait).start()
    time.sleep(0.06)
done.set()
