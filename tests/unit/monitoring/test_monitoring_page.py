# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page in a browser, on a real Prometheus with the rules and a made-up fleet that has just lost its primary."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ansible_collections.c50k.stack.tests.unit.monitoring.prometheus import run, running
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

ROOT = Path(__file__).parents[3]
FILES = ROOT / "roles/monitoring/files"
FLEET = Path(__file__).parent / "made_up_fleet.py"
SECONDS = 900  # that the fleet is old


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def wait_for(url: str) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < end, f"{url} does not answer after 60 s"
            time.sleep(0.2)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page's address."""
    folder = tmp_path_factory.mktemp("prometheus")
    folder.chmod(0o755)
    fleet_port, port = free_port(), free_port()
    (folder / "rules").mkdir()
    for path in (FILES / "rules").glob("*.yml"):
        # nobody has to wait for what fires
        (folder / "rules" / path.name).write_text(re.sub(r"for: \w+$", "for: 0s", path.read_text(), flags=re.MULTILINE))
    (folder / "page").mkdir()
    shutil.copy(FILES / "page/index.html", folder / "page")
    shutil.copy(ROOT / "docs/alerts.md", folder / "page")
    panels = yaml.safe_load((FILES / "page/panels.yml").read_text())
    (folder / "page/panels.json").write_text(json.dumps({"fleet": "demo", **panels}))
    config = {
        "global": {"scrape_interval": "15s", "evaluation_interval": "2s"},
        "rule_files": [f"{folder}/rules/*.yml"],
        "scrape_configs": [
            {"job_name": "fleet", "honor_labels": True, "static_configs": [{"targets": [f"127.0.0.1:{fleet_port}"]}]},
            {"job_name": "prometheus", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]},
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with (folder / "past").open("w") as past:
        subprocess.run([sys.executable, FLEET, "past", str(SECONDS)], stdout=past, check=True)
    made = run("promtool", ["tsdb", "create-blocks-from", "openmetrics", f"{folder}/past", f"{folder}/data"], folder)
    assert made.returncode == 0, made.stderr
    arguments = [
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--web.user-assets={folder}/page",
    ]
    fleet = subprocess.Popen([sys.executable, FLEET, "serve", str(fleet_port), str(SECONDS)])
    try:
        with running("prometheus", arguments, folder):
            wait_for(f"http://127.0.0.1:{port}/-/ready")
            yield f"http://127.0.0.1:{port}/user/"
    finally:
        fleet.kill()
        fleet.wait()


def texts(browser: Chrome, selector: str) -> list[str]:
    return [found.text for found in browser.find_elements(By.CSS_SELECTOR, selector)]


def missing(browser: Chrome) -> list[str]:
    """Titles of panels and tiles that show nothing."""
    tiles = [tile.splitlines()[1] for tile in texts(browser, ".tile") if tile.startswith("–")]
    return texts(browser, "figure.empty figcaption") + tiles


def test_all_panels_have_something_to_show(page: str, browser: Chrome) -> None:
    end = time.monotonic() + 60
    while True:
        browser.get(page)
        WebDriverWait(browser, 30).until(lambda _: len(texts(browser, "figure")) > 40)
        time.sleep(2)
        # what rules record has values after their first evaluation
        if not (left := missing(browser)) or time.monotonic() > end:
            break
    assert left == []
    assert texts(browser, "figure.failed") == []
    assert browser.get_log("browser") == []


def test_what_fires_says_what_where_and_what_to_do(page: str, browser: Chrome) -> None:
    browser.get(page)
    WebDriverWait(browser, 60).until(lambda _: any("has fewer" in text for text in texts(browser, ".alert")))
    alerts = browser.find_elements(By.CSS_SELECTOR, ".alert")
    assert any("demo-postgres-1 does not answer" in alert.text for alert in alerts)
    assert alerts[0].get_attribute("class") == "alert critical"
    [lost] = [alert for alert in alerts if "demo-postgres-1 does not answer" in alert.text]
    lost.find_element(By.TAG_NAME, "button").click()
    WebDriverWait(browser, 10).until(lambda _: "delete the instance" in browser.find_element(By.ID, "runbook").text)


def test_marks_say_what_happened_and_when(page: str, browser: Chrome) -> None:
    browser.get(f"{page}?range=15m")
    WebDriverWait(browser, 30).until(
        lambda _: any("deploy 3f6c0b9a41de" in text for text in texts(browser, "#events text"))
    )
    browser.get(f"{page}?from=1000000&to=1003600")
    # said once the marks of that time are drawn
    WebDriverWait(browser, 30).until(lambda _: " to " in browser.find_element(By.ID, "says").text)
    assert "1970" in browser.execute_script("return new Date(time.from * 1000).toISOString()")
    assert texts(browser, "#events text") == []
