"""A headless Chromium, driven through chromedriver's own protocol (W3C WebDriver): no package is
needed for it.
"""

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
DRIVER = shutil.which("chromedriver")
MISSING = "" if CHROMIUM and DRIVER else "there is no Chromium, or no chromedriver"
PATIENCE_S = 120.0
TAB, ENTER = "\ue004", "\ue007"
OPTIONS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
]


class Browser:
    """One window."""

    def __init__(self, address: str) -> None:
        self._address = address
        options = {"binary": CHROMIUM, "args": OPTIONS}
        capabilities = {
            "alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        }
        self._session = ""
        self._session = self._ask("POST", "session", capabilities=capabilities)["sessionId"]

    def open(self, page: Path) -> None:
        self._ask("POST", "url", url=page.absolute().as_uri())

    def run(self, script: str, *arguments: object) -> Any:
        return self._ask("POST", "execute/sync", script=script, args=list(arguments))

    def resize(self, width: int, height: int, *, zoom: float = 1) -> None:
        """The window of a device; at a zoom of 4 the page has a quarter of its pixels, each four
        times as large.
        """
        metrics = {
            "width": round(width / zoom),
            "height": round(height / zoom),
            "deviceScaleFactor": zoom,
        }
        self.command("Emulation.setDeviceMetricsOverride", **metrics, mobile=False)

    def prefer(self, *, dark: bool) -> None:
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.command("Emulation.setEmulatedMedia", features=features)

    def press(self, *keys: str) -> None:
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._ask("POST", "actions", actions=[{"type": "key", "id": "keys", "actions": actions}])

    def command(self, name: str, **parameters: object) -> Any:
        return self._ask("POST", "goog/cdp/execute", cmd=name, params=parameters)

    def messages(self) -> list[str]:
        """What the page complained about."""
        return [entry["message"] for entry in self._ask("POST", "se/log", type="browser")]

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._ask("GET", "screenshot")))

    def close(self) -> None:
        self._ask("DELETE", "")

    def _ask(self, method: str, path: str, **values: object) -> Any:
        place = (
            f"{self._address}/session/{self._session}/{path}"
            if self._session
            else f"{self._address}/{path}"
        )
        data = json.dumps(values).encode() if method == "POST" else None
        request = urllib.request.Request(place.rstrip("/"), data=data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{path}: {json.load(error)['value']['message']}") from None


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser with all its files below `folder`, for as long as the context."""
    assert DRIVER
    log = folder / "chromedriver.log"
    environment = os.environ | {"HOME": str(folder), "TMPDIR": str(folder)}
    driver = subprocess.Popen(
        [DRIVER, "--port=0", f"--log-path={log}"], stdout=subprocess.PIPE, env=environment
    )
    try:
        window = Browser(f"http://127.0.0.1:{_port(driver)}")
        try:
            yield window
        finally:
            window.close()
    finally:
        driver.terminate()
        driver.wait(PATIENCE_S)
        assert driver.stdout
        driver.stdout.close()


def _port(driver: "subprocess.Popen[bytes]") -> int:
    """The port that the driver took, from what it prints."""
    assert driver.stdout
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and (line := driver.stdout.readline()):
        if b"successfully on port" in line:
            return int(line.strip(b".\n").split()[-1])
    raise RuntimeError("chromedriver did not start")
