"""A container engine for one test, which may end and freeze it. It leaves nothing behind.

It runs in a mount and a network namespace of its own. So it has its own containerd, its mounts disappear with it,
and the host's network is not changed. Its containers have no network. Cgroups are the host's.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.engine.docker.engine import open_engine
from orchestrator.errors import EngineError
from tests.support.cgroups import cgroups_named
from tests.support.handmade import busybox_rootfs

if TYPE_CHECKING:
    from collections.abc import Callable

NEEDS = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("dockerd") is None, reason="needs root and an installed dockerd"
)
IMAGE = "orch-test-tiny:1"
START_SECONDS = 60
_INSIDE = "mount -t tmpfs tmpfs /run && echo ready && exec sleep 3600"


class OwnEngine:
    """An engine that a test starts, ends and freezes, and must close in any case."""

    def __init__(self) -> None:
        self.folder = Path(
            tempfile.mkdtemp(prefix="own-engine-")
        )  # short, because a socket's path has at most 107 characters
        self.folder.chmod(0o755)
        self.address = f"unix://{self.folder}/docker.sock"
        self._home = subprocess.Popen(
            ["unshare", "--mount", "--net", "sh", "-c", _INSIDE], stdout=subprocess.PIPE, text=True
        )
        assert self._home.stdout is not None
        assert self._home.stdout.readline() == "ready\n"
        self._daemon: subprocess.Popen[bytes] | None = None
        self.start()
        with contextlib.closing(open_engine(self.address, {})) as engine:
            engine.import_rootfs(io.BytesIO(busybox_rootfs()), IMAGE, {})

    def start(self) -> None:
        """Start the engine and wait until it answers."""
        # after kill -9; an ended containerd may remain a zombie where no init reaps it
        for name in ("docker.pid", "exec/containerd/containerd.pid"):
            (self.folder / name).unlink(missing_ok=True)
        words = ["nsenter", f"--target={self._home.pid}", "--mount", "--net", "dockerd", f"--host={self.address}"]
        words += [f"--data-root={self.folder}/data", f"--exec-root={self.folder}/exec"]
        words += [f"--pidfile={self.folder}/docker.pid", "--bridge=none", "--iptables=false"]
        words += ["--shutdown-timeout=1"]
        with (self.folder / "log").open("ab") as log:
            self._daemon = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            said = (self.folder / "log").read_text(errors="replace")[-2000:]
            assert self._daemon.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.05)

    def answers(self) -> bool:
        try:
            open_engine(self.address, {}).close()
        except EngineError:
            return False
        return True

    def send(self, number: signal.Signals) -> None:
        assert self._daemon is not None
        self._daemon.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the engine and wait for it; its containers end with it, or are ended by the next start."""
        self.send(number)
        assert self._daemon is not None
        self._daemon.wait(60)

    def docker(self, *words: str, refused: str | None = None) -> str:
        """Run the engine's command line and return its output, or `refused` if it fails."""
        done = subprocess.run(
            ["docker", "--host", self.address, *words], capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode and refused is not None:
            return refused
        assert done.returncode == 0, done.stderr
        return done.stdout

    def shims(self) -> list[int]:
        """Return the pids of the processes that serve its containers."""
        return self._processes(lambda words: "containerd-shim" in words[0])

    def _processes(self, wanted: Callable[[list[str]], bool]) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    words = (entry / "cmdline").read_text(errors="replace").split("\0")
                    if any(str(self.folder) in word for word in words) and wanted(words):
                        found.append(int(entry.name))
        return found

    def close(self) -> None:
        """End the engine and everything it started, and remove its files."""
        if self._daemon is not None and self._daemon.poll() is None:
            self.send(signal.SIGCONT)
            self.end()
        for pid in self._processes(lambda words: "pytest" not in " ".join(words)):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self._home.kill()
        self._home.wait()
        if self._home.stdout is not None:
            self._home.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def traces(engine: OwnEngine, run_id: str) -> list[str]:
    """Return what is left of a run: containers, cgroups, shims, its temporary folder."""
    label = f"label=io.orch.run={run_id}"
    found = [f"container {name}" for name in engine.docker("ps", "-aq", "--filter", label).split()]
    found += [str(path) for path in cgroups_named(f"orch[-_]{run_id[:8]}*")]
    found += [f"shim {pid}" for pid in engine.shims()]
    return found + [str(path) for path in Path(tempfile.gettempdir()).glob(f"orch-{run_id}*")]
