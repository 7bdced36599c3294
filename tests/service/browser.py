"""A headless Chromium, driven over its debugging pipe: no port, no driver, nothing to install.

Facts (Chrome DevTools Protocol, `--remote-debugging-pipe`): commands go in on descriptor 3 and come out on 4, as JSON
ended by a zero byte.
"""

from __future__ import annotations

import base64
import json
import os
import selectors
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.tools import needed

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
"""Its names; any of them will do."""
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
         "--no-startup-window", "--remote-debugging-pipe", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
LAUNCH = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3]]
for wanted, end in zip((3, 4), ends):
    os.dup2(end, wanted)
os.execv(sys.argv[3], sys.argv[3:])
"""
PATIENCE_S = 60.0


class Browser:
    """One running Chromium."""

    def __init__(self, profile: Path) -> None:
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(theirs_in), str(theirs_out), needed(*CHROMIUM), *FLAGS,
             f"--user-data-dir={profile}"],
            pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(theirs_in)
        os.close(theirs_out)
        self._ready = selectors.DefaultSelector()
        self._ready.register(self._in, selectors.EVENT_READ)
        self._buffer, self._number = b"", 0
        self.events: list[dict] = []

    def command(self, method: str, *, session: str = "", **params: Any) -> dict:
        """Send a command and return its result; events on the way are kept."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (reply := self._next()).get("id") != number:
            self.events.append(reply)
        assert "error" not in reply, f"{method}: {reply['error']}"
        return reply["result"]

    def _next(self) -> dict:
        deadline = time.monotonic() + PATIENCE_S
        while b"\0" not in self._buffer:
            assert self._ready.select(max(0.0, deadline - time.monotonic())), "the browser says nothing"
            chunk = os.read(self._in, 1 << 20)
            assert chunk, "the browser is gone"
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def tab(self) -> Tab:
        """An empty page of its own."""
        return Tab(self)

    def close(self) -> None:
        """End the browser and its helpers."""
        try:
            os.write(self._out, b'{"id":0,"method":"Browser.close"}\0')
            self._process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._out)
        os.close(self._in)


class Tab:
    """One page, on a screen of the size asked for."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._target = browser.command("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.command("Target.attachToTarget", targetId=self._target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Page"):
            self._do(f"{domain}.enable")

    def _do(self, method: str, **params: Any) -> dict:
        return self._browser.command(method, session=self._session, **params)

    def screen(self, *, width: int, height: int = 1600, dark: bool = False) -> None:
        """As a phone, a desktop, a desktop at night."""
        self._do("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._do("Emulation.setEmulatedMedia", features=scheme)

    def open(self, url: str) -> None:
        self._do("Page.navigate", url=url)

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        result = self._do("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, expression: str, *, patience_s: float = PATIENCE_S) -> None:
        """Until the expression holds; fails when it does not in time."""
        deadline = time.monotonic() + patience_s
        while not self.run(expression):
            assert time.monotonic() < deadline, f"{expression} never held; the page says: {self.text()}"
            time.sleep(0.02)

    def text(self) -> str:
        """What can be read, blanks aside."""
        return " ".join(str(self.run("document.body ? document.body.innerText : ''")).split())

    def picture(self) -> bytes:
        """The screen as PNG."""
        return base64.b64decode(self._do("Page.captureScreenshot", format="png")["data"])

    def complaints(self) -> list[str]:
        """What the page wrote to the console or the browser held against it."""
        self.run("0")
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(event["params"]) for event in self._browser.events
                if event.get("sessionId") == self._session and event["method"] in kinds]

    def close(self) -> None:
        self._browser.command("Target.closeTarget", targetId=self._target)
