"""A headless Chromium for tests, driven by Selenium."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
MISSING = "" if CHROMIUM and DRIVER else "there is no Chromium, or no chromedriver"
# A container has no user namespaces for the sandbox and no GPU. The others keep Chromium from
# asking its maker's servers for updates and settings.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
)
# A loaded machine of two cores takes up to a minute to start a browser.
PATIENCE_S = 120


class Browser:
    """A window of Chromium, and the commands of its developer tools that tests need."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self._driver = driver

    def open(self, page: Path | str) -> None:
        address = page.absolute().as_uri() if isinstance(page, Path) else page
        self._driver.get(address)

    def run(self, script: str, *arguments: object) -> Any:
        return self._driver.execute_script(script, *arguments)

    def resize(self, width: int, height: int, *, zoom: float = 1) -> None:
        """Give the page the window of a device of `width` x `height` pixels.

        At a zoom of 4 the page has a quarter of the pixels, each four times as large.
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
        ActionChains(self._driver).send_keys(*keys).perform()

    def command(self, name: str, **parameters: object) -> Any:
        """Run a command of the DevTools protocol."""
        return self._driver.execute_cdp_cmd(name, parameters)

    def messages(self) -> list[str]:
        """Return the errors and warnings of the page's console."""
        return [entry["message"] for entry in self._driver.get_log("browser")]

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Write a PNG of the window, or of the `whole` page however long it is."""
        if whole:
            size = self.command("Page.getLayoutMetrics")["cssContentSize"]
            self.resize(int(self.run("return innerWidth")), int(size["height"]))
        self._driver.save_screenshot(str(path))


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Start a browser that writes nothing outside of `folder`, and end it with the context."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # naming the driver keeps Selenium from looking for one on the network
    service = Service(executable_path=DRIVER, log_output=str(folder / "chromedriver.log"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        driver.set_script_timeout(PATIENCE_S)
        driver.set_page_load_timeout(PATIENCE_S)
        yield Browser(driver)
    finally:
        driver.quit()
