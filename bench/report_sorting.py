"""How long sorting a column of the nightly report takes in a real browser, from the click to the next frame.

Drives headless Chromium over the pipe of its DevTools protocol, without a network.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

CLICKS = """
(async () => {
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
  const table = document.getElementById("all"), found = [];
  await new Promise((done) => setTimeout(done, 500));
  for (const inSight of [false, true]) {
    if (inSight) table.scrollIntoView();
    await frame();
    for (const column of [1, 5, 5, 3, 0, 1, 10]) {
      const head = table.tHead.rows[0].cells[column], started = performance.now();
      head.querySelector("button").click();
      const sorted = performance.now();
      await frame();
      const ended = performance.now(), name = head.textContent + (inSight ? ", in sight" : "");
      const rows = table.tBodies[0].rows, first = rows[0].cells[1].textContent;
      found.push([name, rows.length, Math.round(sorted - started), Math.round(ended - started), first]);
    }
  }
  return JSON.stringify(found);
})()
"""


class Browser:
    """A Chromium process with one page."""

    def __init__(self, width: int) -> None:
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()
        words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        words += [f"--window-size={width},1000", "--host-resolver-rules=MAP * ~NOTFOUND"]
        self._folder = tempfile.TemporaryDirectory()
        script = f"exec chromium {' '.join(repr(word) for word in words)} --user-data-dir={self._folder.name} "
        self._process = subprocess.Popen(
            ["sh", "-c", f"{script} about:blank 3<&{commands} 4>&{answers} 2>/dev/null"],
            pass_fds=(commands, answers),
        )
        os.close(commands)
        os.close(answers)
        self._pending, self._number = b"", 0
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._folder.cleanup()

    def call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """Send a command of the protocol and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            pass
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._pending:
            self._pending += os.read(self._read, 1 << 20)
        message, _, self._pending = self._pending.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def evaluate(self, address: str, expression: str) -> str:
        """Open a page, run a script in it and return its result."""
        self.call("Page.enable", self._session)
        self.call("Page.navigate", self._session, url=address)
        while self._next().get("method") != "Page.loadEventFired":
            pass
        words = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        return str(self.call("Runtime.evaluate", self._session, **words)["result"]["value"])


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="a page of `orch report --html`")
    parser.add_argument("--width", type=int, default=1400, help="of the window, in pixels")
    arguments = parser.parse_args(argv)
    report = arguments.report.absolute()
    with Browser(arguments.width) as browser:
        found = json.loads(browser.evaluate(report.as_uri(), CLICKS))
    for name, rows, sorted_ms, all_ms, first in found:
        print(f"{name}: {rows} rows, sorted in {sorted_ms} ms, next frame after {all_ms} ms; first {first}")
    return 0
