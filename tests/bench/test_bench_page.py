"""The page of the bench with its plots, in a real browser; needs bench/requirements.txt, so `bench/run` runs this."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import made_up
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plots import draw, spread
from sections import Bar, Chart, Line, Panel, sections
from selenium.webdriver import Chrome

PAGE = Path(__file__).parents[2] / "bench" / "page.py"
HOSTILE = "<img src=x onerror=document.title='taken'>$\\frac$"
SIZE = "return [document.documentElement.scrollWidth, innerWidth]"


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "BENCH_RESULTS": str(folder)}
    return subprocess.run(
        [sys.executable, PAGE, *options], env=environment, capture_output=True, text=True, check=False
    )


def test_the_page_is_one_file_that_shows_names_as_text(tmp_path: Path, browser: Chrome) -> None:
    made_up.write(tmp_path)
    throughput = (tmp_path / "throughput.json").read_text()
    (tmp_path / "throughput.json").write_text(throughput.replace("fastify", json.dumps(HOSTILE)[1:-1]))
    done = run(tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'index.html'}\n"), done.stderr

    browser.get(f"file://{tmp_path / 'index.html'}")
    assert browser.title == "c50k.stack, measured"
    assert browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)") == []
    assert browser.execute_script("return document.querySelectorAll('svg').length") == 16
    labels = browser.execute_script("return [...document.querySelectorAll('svg text')].map(text => text.textContent)")
    assert labels.count(HOSTILE) == 8  # a bar or a line of each chart and route
    cells = browser.execute_script("return [...document.querySelectorAll('td')].map(cell => cell.innerText)")
    assert HOSTILE in cells
    browser.set_window_size(400, 800)
    width, window = browser.execute_script(SIZE)
    assert width <= window
    # the browser's own first tab may have something to say too
    assert [entry for entry in browser.get_log("browser") if not entry["message"].startswith("chrome://")] == []


def test_colours_and_letters_are_those_of_the_page(tmp_path: Path, browser: Chrome) -> None:
    made_up.write(tmp_path)
    assert run(tmp_path).returncode == 0
    browser.get(f"file://{tmp_path / 'index.html'}")
    fills = set()
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        fills.add(browser.execute_script("return getComputedStyle(document.querySelector('svg text')).fill"))
    assert len(fills) == 2
    undefined = browser.execute_script("""
        const style = getComputedStyle(document.documentElement);
        const used = document.body.innerHTML.matchAll(/var\\((--[a-z0-9-]+)\\)/g);
        return [...used].map(found => found[1]).filter(name => !style.getPropertyValue(name))""")
    assert undefined == []


def test_nothing_measured_is_a_page_too(tmp_path: Path) -> None:
    assert run(tmp_path).returncode == 0
    assert (tmp_path / "index.html").read_text().count("Not measured yet") == 14
    assert "not measured" in run(tmp_path, "--markdown").stdout


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "throughput.json").write_text("{")
    done = run(tmp_path)
    assert done.returncode == 1
    assert "throughput.json is not JSON" in done.stderr
    assert not (tmp_path / "index.html").exists()


def test_a_chart_is_xml_without_colours_of_its_own_and_the_same_each_time() -> None:
    charts = [chart for section in sections(made_up.results()) for chart in section.charts]
    for chart in charts:
        svg = draw(chart)
        assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
        assert not re.search(r"#[0-9a-f]{6}\b(?=[;\"])", svg)
        assert draw(chart) == svg


def test_values_that_no_axis_shows_are_no_error() -> None:
    results = made_up.results()
    for row in results["in_flight"]:
        row["memory_kib_each"] = -0.3
    for row in results["throughput"]["sweep"] + results["throughput"]["summary"]:
        row.update(requests_a_second=0.0, p50_ms=0.0, p99_ms=0.0)
    assert all(draw(chart) for section in sections(results) for chart in section.charts)


def test_bars_and_lines_carry_their_notes() -> None:
    bars = (Bar("a & b", 0.0, "none", True), Bar("c", 3.0, "3 of <them>", False))
    lines = (Line("one", ((1.0, 2.0), (8.0, 2.0)), 0), Line("two", ((1.0, 2.0), (8.0, 2.0)), 7))
    panels = (Panel("left", "of", bars=bars, goal=(2.0, "goal")), Panel("right", "x", "y", lines=lines, log=True))
    root = ElementTree.fromstring(draw(Chart("both", panels)))
    said = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"a & b", "none", "3 of <them>", "goal", "left", "of", "right", "x", "y", "one", "two"} <= said


@given(st.lists(st.floats(-1, 2), max_size=8).map(sorted), st.floats(0.01, 0.2))
def test_labels_are_apart_and_moved_only_if_they_would_touch(heights: list[float], gap: float) -> None:
    found = spread(heights, gap)
    assert len(found) == len(heights)
    assert all(upper - lower >= gap - 1e-9 for lower, upper in zip(found, found[1:], strict=False))
    if all(upper - lower >= gap for lower, upper in zip(heights, heights[1:], strict=False)):
        assert found == pytest.approx(heights)
