"""docker/seccomp.json on a real engine: the listed calls are refused, and what tests need works.

Each refused call is made three times with the same arguments: in a container isolated like those of tests; by root
with capabilities under the profile, where only the profile can refuse it; and by root without any profile, where
the answer must be another one, so that a broken call cannot look like protection.
"""

import json
import platform
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[2]
PROFILE = ROOT / "docker" / "seccomp.json"
IMAGE = "orch/test-isolation:latest"
LABEL = "io.orch.testsuite=seccomp"
CLOSED = (
    f"--security-opt=seccomp={PROFILE}",
    "--security-opt=no-new-privileges",
    "--cap-drop=ALL",
    "--user=1001:1001",
    "--read-only",
    "--tmpfs=/tmp:exec,mode=1777",
    "--network=none",
)
ROOT_USER = (
    "--security-opt=apparmor=unconfined",
    # by name, because an engine that lacks one refuses ALL; without SYS_PTRACE, on which the profile depends
    "--cap-add=DAC_READ_SEARCH",
    "--cap-add=NET_ADMIN",
    "--cap-add=NET_RAW",
    "--cap-add=SYSLOG",
    "--cap-add=SYS_ADMIN",
    "--cap-add=SYS_BOOT",
    "--cap-add=SYS_CHROOT",
    "--cap-add=SYS_MODULE",
    "--cap-add=SYS_NICE",
    "--cap-add=SYS_RAWIO",
    "--cap-add=SYS_TIME",
    "--user=0:0",
    "--tmpfs=/tmp:exec,mode=1777",
    "--network=none",
)
PROFILED = (f"--security-opt=seccomp={PROFILE}", *ROOT_USER)
OPEN = ("--security-opt=seccomp=unconfined", *ROOT_USER)

# Numbers by `uname -m`. Every call is made with arguments that do nothing even where it is allowed.
NUMBERS = {
    "x86_64": {
        "add_key": 248, "bpf": 321, "chroot": 161, "clock_settime": 227, "clone": 56, "clone3": 435,
        "finit_module": 313, "fsopen": 430, "init_module": 175, "io_uring_setup": 425, "ioperm": 173,
        "kcmp": 312, "kexec_load": 246, "keyctl": 250, "mbind": 237, "mount": 165, "move_pages": 279,
        "open_by_handle_at": 304, "perf_event_open": 298, "pivot_root": 155, "process_vm_readv": 310,
        "process_vm_writev": 311, "ptrace": 101, "quotactl": 179, "reboot": 169, "request_key": 249,
        "sethostname": 170, "setns": 308, "socket": 41, "swapon": 167, "syslog": 103, "umount2": 166,
        "unshare": 272, "userfaultfd": 323,
    },
    "aarch64": {
        "add_key": 217, "bpf": 280, "chroot": 51, "clock_settime": 112, "clone": 220, "clone3": 435,
        "finit_module": 273, "fsopen": 430, "init_module": 105, "io_uring_setup": 425,
        "kcmp": 272, "kexec_load": 104, "keyctl": 219, "mbind": 235, "mount": 40, "move_pages": 239,
        "open_by_handle_at": 265, "perf_event_open": 241, "pivot_root": 41, "process_vm_readv": 270,
        "process_vm_writev": 271, "ptrace": 117, "quotactl": 60, "reboot": 142, "request_key": 218,
        "sethostname": 161, "setns": 268, "socket": 198, "swapon": 224, "syslog": 116, "umount2": 39,
        "unshare": 97, "userfaultfd": 282,
    },
}  # fmt: skip
# Each call has a process of its own, because one that succeeds may change what the next one may do.
PROBE = """
import ctypes, errno, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def answer(number, arguments):
    code = libc.syscall(ctypes.c_long(number), *[
        ctypes.c_char_p(a.encode()) if isinstance(a, str) else ctypes.c_ulong(a) for a in arguments])
    return "ok" if code >= 0 else errno.errorcode[ctypes.get_errno()]
results = {}
for name, number, arguments in json.loads(sys.argv[1]):
    here, there = os.pipe()
    if os.fork() == 0:
        os.write(there, answer(number, arguments).encode())
        os._exit(0)
    os.close(there)
    results[name] = os.read(here, 100).decode()
    os.close(here)
print(json.dumps(results))
"""
BIG = 2**64 - 1
# name, call, arguments, answers that count as refused. The arguments are wrong on purpose wherever the call
# could do harm (bad pointers, bad magic numbers): an open container answers EFAULT, EINVAL, EBADF, ENOENT…
REFUSED = [
    ("AF_PACKET", "socket", [17, 3, 0], {"EAFNOSUPPORT"}),
    ("AF_PACKET with a high bit", "socket", [2**32 + 17, 3, 0], {"EAFNOSUPPORT"}),
    ("AF_NETLINK audit", "socket", [16, 3, 9], {"EPERM", "ENOSYS"}),
    ("clone user namespace", "clone", [0x10000000 | 17, 0, 0, 0, 0], {"EPERM", "ENOSYS"}),
    ("clone mount namespace", "clone", [0x00020000 | 17, 0, 0, 0, 0], {"EPERM", "ENOSYS"}),
    ("clone network namespace", "clone", [0x40000000 | 17, 0, 0, 0, 0], {"EPERM", "ENOSYS"}),
    ("unshare user namespace", "unshare", [0x10000000], {"EPERM", "ENOSYS"}),
    ("unshare time namespace", "unshare", [0x80], {"EPERM", "ENOSYS"}),
    ("clone3", "clone3", [0, 0], {"ENOSYS"}),
    ("io_uring_setup", "io_uring_setup", [1, 0], {"ENOSYS"}),
    ("ptrace", "ptrace", [0x4206, 2**22 + 1, 0, 0], {"EPERM"}),
    ("process_vm_readv", "process_vm_readv", [2**22 + 1, 0, 0, 0, 0, 0], {"EPERM"}),
    ("process_vm_writev", "process_vm_writev", [2**22 + 1, 0, 0, 0, 0, 0], {"EPERM"}),
    ("kcmp", "kcmp", [2**22 + 1, 2**22 + 1, 0, 0, 0], {"EPERM"}),
    ("keyctl", "keyctl", [0, BIG - 2, 0], {"EPERM"}),
    ("add_key", "add_key", ["user", "", 0, 0, BIG - 2], {"EPERM"}),
    ("request_key", "request_key", ["nothing", "nothing", 0, 0], {"EPERM"}),
    ("mount", "mount", ["none", "/nowhere", "tmpfs", 0, 0], {"EPERM"}),
    ("umount2", "umount2", ["/nowhere", 0], {"EPERM"}),
    ("fsopen", "fsopen", ["nothing", 0], {"EPERM"}),
    ("pivot_root", "pivot_root", ["/nowhere", "/nowhere"], {"EPERM"}),
    ("chroot", "chroot", ["/nowhere"], {"EPERM"}),
    ("setns", "setns", [BIG, 0], {"EPERM"}),
    ("open_by_handle_at", "open_by_handle_at", [BIG, 0, 0], {"EPERM"}),
    ("bpf", "bpf", [0, 0, 0], {"EPERM"}),
    ("perf_event_open", "perf_event_open", [0, 0, 0, 0, 0], {"EPERM"}),
    ("userfaultfd", "userfaultfd", [1], {"EPERM"}),
    ("init_module", "init_module", [0, 0, ""], {"EPERM"}),
    ("finit_module", "finit_module", [BIG, "", 0], {"EPERM"}),
    ("kexec_load", "kexec_load", [0, 0, 0, BIG], {"EPERM"}),
    ("reboot", "reboot", [0, 0, 0, 0], {"EPERM"}),
    ("swapon", "swapon", ["/nowhere", 0], {"EPERM"}),
    ("syslog", "syslog", [10, 0, 0], {"EPERM"}),
    ("clock_settime", "clock_settime", [0, 0], {"EPERM"}),
    ("sethostname", "sethostname", [0, 4], {"EPERM"}),
    ("quotactl", "quotactl", [0, "/nowhere", 0, 0], {"EPERM"}),
    ("ioperm", "ioperm", [BIG, 1, 1], {"EPERM"}),
    ("mbind", "mbind", [1, 0, 0, 0, 0, 0], {"EPERM"}),
    ("move_pages", "move_pages", [0, 1, 0, 0, 0, BIG], {"EPERM"}),
]


def container(options: tuple[str, ...], *words: str, image: str = IMAGE, given: str | None = None) -> str:
    command = ["docker", "run", "--rm", "-i", f"--label={LABEL}", *options, image, *words]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def answers(options: tuple[str, ...]) -> dict[str, str]:
    numbers = NUMBERS[platform.machine()]
    calls = [(name, numbers[call], arguments) for name, call, arguments, _ in REFUSED if call in numbers]
    return json.loads(container(options, "python3", "-c", PROBE, json.dumps(calls)))


@pytest.fixture(scope="module")
def seen() -> dict[str, dict[str, str]]:
    return {"closed": answers(CLOSED), "profiled": answers(PROFILED), "open": answers(OPEN)}


@pytest.mark.parametrize(("name", "call", "refusals"), [(name, call, answer) for name, call, _, answer in REFUSED])
def test_a_refused_call(name, call, refusals, seen):
    if call not in NUMBERS[platform.machine()]:
        assert platform.machine() == "aarch64", "x86 has them all"
        return
    assert seen["closed"][name] in refusals
    assert seen["profiled"][name] in refusals
    assert seen["open"][name] not in (seen["closed"][name], "EPERM"), "without the profile it must get further"


# A kernel may lack these families; the profile refuses their numbers anyway.
FAMILIES = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
for family in (1, 2, 10, 16, 17, 38, 40, 2**32 + 38, 2**32 + 1):
    number = libc.syscall(%d, ctypes.c_ulong(family), {16: 3, 17: 3, 38: 5}.get(family, 1), 0)
    print(family, "ok" if number >= 0 else errno.errorcode[ctypes.get_errno()])
"""


def families(options: tuple[str, ...]) -> dict[int, str]:
    text = container(options, "python3", "-c", FAMILIES % NUMBERS[platform.machine()]["socket"])
    return {int(line.split()[0]): line.split()[1] for line in text.splitlines()}


def test_socket_families():
    closed, unconfined = families(CLOSED), families(OPEN)
    assert [closed[family] for family in (1, 2, 10, 16)] == ["ok"] * 4
    assert {closed[family] for family in (17, 38, 40, 2**32 + 38, 2**32 + 1)} == {"EAFNOSUPPORT"}
    # the kernel uses only the lower 32 bits, so a filter that compares all bits would allow these
    assert unconfined[2**32 + 1] == "ok"
    assert unconfined[17] == "ok"


INT80 = """
import ctypes, mmap, signal, os, sys
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
# push rbx; mov eax, 20 (getpid, 32-bit); int 0x80; pop rbx; ret
page.write(bytes.fromhex("53 b8 14000000 cd80 5b c3"))
function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
pid = os.fork()
if pid == 0:
    os._exit(0 if function() == os.getpid() else 7)
_, status = os.waitpid(pid, 0)
print("signal" if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="32-bit calls of a 64-bit kernel are x86's own affair")
def test_32_bit_calls_are_refused():
    unconfined = container(OPEN, "python3", "-c", INT80).strip()
    assert unconfined in ("0", "signal"), "0: the kernel takes them; signal: it was built without"
    assert container(CLOSED, "python3", "-c", INT80).strip() in ("signal", "7")


JIT = """
import ctypes, mmap, platform
code = {"x86_64": "b8 2a000000 c3", "aarch64": "40058052 c0035fd6"}[platform.machine()]
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
# written first and made executable afterwards, as just-in-time compilers do
place = libc.mmap(None, 4096, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
ctypes.memmove(place, bytes.fromhex(code), len(bytes.fromhex(code)))
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
assert libc.mprotect(place, 4096, mmap.PROT_READ | mmap.PROT_EXEC) == 0
assert ctypes.CFUNCTYPE(ctypes.c_int)(place)() == 42
"""
PARALLEL = """
import asyncio, multiprocessing, os, socket, subprocess, threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import shared_memory

if __name__ == "__main__":
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(abs, range(100))) == 4950
    with ProcessPoolExecutor(2) as pool:
        assert sum(pool.map(abs, range(100))) == 4950
    lock = multiprocessing.Lock()
    with lock:
        pass
    memory = shared_memory.SharedMemory(create=True, size=64)
    memory.close(); memory.unlink()
    async def echo():
        async def answer(reader, writer):
            writer.write(await reader.readline()); writer.close()
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello\\n")
        line = await reader.readline()
        process = await asyncio.create_subprocess_exec("true")
        assert await process.wait() == 0
        writer.close(); server.close()
        return line
    assert asyncio.run(echo()) == b"hello\\n"
    assert subprocess.run(["sh", "-c", "echo $(id -u) | cat"], capture_output=True).stdout == b"1001\\n"
    left, right = socket.socketpair()
    os.mkfifo("/tmp/fifo"); os.unlink("/tmp/fifo")
    assert socket.getaddrinfo("localhost", 80)
    if hasattr(os, "memfd_create"):
        os.close(os.memfd_create("x"))
    print("fine")
"""


def test_a_jit_works():
    container(CLOSED, "python3", "-c", JIT)


def test_threads_processes_and_asyncio_work():
    assert container(CLOSED, "sh", "-c", "cat >/tmp/p.py; python3 /tmp/p.py", given=PARALLEL) == "fine\n"


def test_pytest_works_on_a_read_only_root():
    text = container(
        CLOSED, "sh", "-c", "cd /tmp; echo 'def test_it(tmp_path): pass' >test_it.py; python3 -m pytest -q"
    )
    assert "1 passed" in text


def test_debuggers_need_the_capability():
    script = """
cd /tmp
echo 'int main(void) { int *p = 0; return *p; }' >crash.c
gcc -g crash.c -o crash
gdb -q -batch -ex run -ex bt ./crash 2>&1 || true
strace -f -e trace=execve true 2>&1 || true
"""
    full = "orch/test-full:latest"
    allowed = container((*CLOSED, "--cap-add=SYS_PTRACE"), "bash", "-c", script, image=full)
    assert "main () at crash.c:1" in allowed
    assert 'execve("' in allowed
    assert "Error disabling address space randomization" not in allowed
    refused = container(CLOSED, "bash", "-c", script, image=full)
    assert "main () at crash.c:1" not in refused
    assert 'execve("' not in refused


def test_the_profile_is_what_the_container_runs_under():
    assert "Seccomp:\t2" in container(CLOSED, "cat", "/proc/self/status")
    assert "Seccomp:\t0" in container(OPEN, "cat", "/proc/self/status")
