"""How long a click on a column of the nightly report takes in a real browser, to the frame after it.

    PYTHONPATH=. python bench/report_sorting.py REPORT.html [WIDTH]

Drives headless Chromium over the pipe of its DevTools protocol, without a network.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

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
    """A Chromium with one page."""

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
        """Result of a command of the protocol."""
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
        """Open a page and run a script in it."""
        self.call("Page.enable", self._session)
        self.call("Page.navigate", self._session, url=address)
        while self._next().get("method") != "Page.loadEventFired":
            pass
        words = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        return str(self.call("Runtime.evaluate", self._session, **words)["result"]["value"])


def main() -> None:
    report, width = Path(sys.argv[1]).absolute(), int(sys.argv[2]) if len(sys.argv) > 2 else 1400
    with Browser(width) as browser:
        found = json.loads(browser.evaluate(report.as_uri(), CLICKS))
    for name, rows, sorted_ms, all_ms, first in found:
        print(f"{name}: {rows} rows, sorted in {sorted_ms} ms, next frame after {all_ms} ms; first {first}")


if __name__ == "__main__":
    main()
