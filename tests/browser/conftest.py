"""A real Chromium, and a JupyterLab with copies of the notebooks and a data folder of the tests' own."""

import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from latencylab import paths
from latencylab.backends.processes import Service, answers, free_port

expect.set_options(timeout=120_000)  # a busy machine is no failure

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="module")  # not longer: Playwright's event loop would be in the way of other tests' own
def chromium() -> Iterator[Browser]:
    """A headless Chromium of this machine."""
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        pytest.skip(f"NOT TESTED: no Chromium on PATH ({', '.join(CHROMIUM)})")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab: its address, the copies of the notebooks, and the data folder of its kernels."""

    url: str
    token: str
    notebooks: Path
    data: Path

    def open(self, page: Page, notebook: str) -> None:
        """Open a notebook alone and wait until its kernel is idle."""
        page.goto(f"{self.url}/lab/tree/{notebook}?token={self.token}&reset")
        page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(timeout=120_000)


SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},  # cells out of sight are cells nevertheless
}


@pytest.fixture(scope="module")
def lab(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab without the user's settings."""
    home = tmp_path_factory.mktemp("lab")
    for name, values in SETTINGS.items():
        file = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    shutil.copytree(paths.NOTEBOOKS, home / "notebooks", ignore=shutil.ignore_patterns(".*"))
    running = Lab(f"http://127.0.0.1:{(port := free_port())}", secrets.token_hex(16), home / "notebooks", home / "data")
    environment = {
        "LATENCYLAB_DATA": str(running.data),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(paths.ROOT), os.environ.get("PYTHONPATH")])),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "share"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
    }
    options = [
        "--no-browser",
        "--allow-root",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={running.token}",
        f"--ServerApp.root_dir={running.notebooks}",
    ]
    server = Service("jupyterlab", [sys.executable, "-m", "jupyterlab", *options], environment, home / "jupyterlab.log")
    try:
        server.wait_until(lambda: answers(f"{running.url}/api"), timeout_s=120)
        yield running
    finally:
        server.stop()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page of its own."""
    context = chromium.new_context(viewport={"width": 1200, "height": 1800})
    opened = context.new_page()
    opened.set_default_timeout(120_000)
    yield opened
    context.close()
