# SPDX-License-Identifier: GPL-3.0-or-later
"""report.yml against the lab's account, where no host answers: there is a page, and it says what it lacks."""

from __future__ import annotations

from pathlib import Path

from lab_server import Server
from playbook import Account, play

from lab.models import Instance

TYPE = "g6-dedicated-4"
FLEET = {
    "fleet_name": "evident",
    "fleet_region": "de-fra-2",
    "fleet_tiers": {"app_server": {"count": 2, "max": 2, "type": TYPE}},
}


def test_a_fleet_of_which_only_the_account_tells(shared: Server, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "report.html"
    with Account(shared) as account:
        subnet = account.vpc("evident")
        account.host("evident-app_server-1", subnet, "10.0.2.10", "evident", "app_server", size=TYPE)
        account.host("evident-app_server-2", subnet, "10.0.2.11", "evident", "app_server", size=TYPE)
        one = next(item for item in shared.lab.store.all(Instance) if item.label == "evident-app_server-1")
        one.samples = [[1000.0 * number, 37.0, 0, 1e6, 2e6, 3e6, 4e6] for number in range(20)]
        run = play("report", tmp_path, shared, **FLEET, report_file=str(page))
    assert run.returncode == 0, run.stdout
    html = page.read_text()
    assert "Fleet evident" in html
    assert "37 %" in html
    assert "4 M" in html
    said = " ".join(run.stdout.replace("''", "'").split())  # as YAML quotes
    assert "Missing: Linode's statistics of evident-app_server-2: Stats are unavailable at this time." in said
    assert "Missing: No load test of this fleet" in said


def test_an_account_that_refuses_is_said_and_the_page_is_there(shared: Server, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    run = play("report", tmp_path, shared, **FLEET, report_file=str(page), fleet_api_token="wrong")
    assert run.returncode == 0, run.stdout
    assert "refuses the token" in page.read_text()
