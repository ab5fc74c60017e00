"""ipc-leak: System V shared memory, a semaphore set, a message queue, and a file in /dev/shm stay behind."""

import ctypes

libc = ctypes.CDLL(None, use_errno=True)
create = 0o1000 | 0o600
assert libc.shmget(0x0C1, 1 << 20, create) >= 0
assert libc.semget(0x0C2, 3, create) >= 0
assert libc.msgget(0x0C3, create) >= 0
with open("/dev/shm/sem.forgotten", "w") as file:
    file.write("x")
