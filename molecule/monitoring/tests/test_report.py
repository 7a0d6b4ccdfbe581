# SPDX-License-Identifier: GPL-3.0-or-later
"""The evidence page shows what the fleet is; each host has what an administrator looks for first."""

from __future__ import annotations

from pathlib import Path
from statistics import mean
from typing import Any

from conftest import Fleet, account, eventually, play

# Linode's model looks at its Linodes every five minutes.
FIRST_LOOK = 330


def test_each_host_keeps_a_history_of_its_load(fleet: Fleet) -> None:
    for name, host in fleet:
        assert host.run("htop --version").rc == 0, name
        for unit in ("sysstat-collect.timer", "sysstat-summary.timer"):
            assert host.check_output(f"systemctl is-active {unit}") == "active", name
        # what passed between two records is what is shown
        host.check_output(
            "for unit in collect summary collect; do systemctl start sysstat-$unit.service; sleep 1; done"
        )
        assert "ldavg-1" in host.check_output("LC_ALL=C sar -q -f /var/log/sysstat/sa$(date +%d)"), name


def test_the_evidence_page_shows_the_fleet_as_it_is(fleet: Fleet, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = play("report", stack_reports=str(tmp_path))
    assert done.returncode == 0, done.stdout
    html = page.read_text()
    for name, host in fleet:
        assert f">{name}</td>" in html
        assert host.check_output("uname -r") in html
    app = fleet.tier("app_server")[0]
    assert app.check_output("basename $(readlink /etc/app/current/release)") in html
    database = fleet.tier("postgres")[0]
    installed = database.check_output("dpkg-query --show --showformat '${Version}' postgresql-17")
    assert f"PostgreSQL {installed}" in html
    assert 'class="host primary"' in html
    shared_buffers = database.check_output("runuser -u postgres -- psql -XAtc 'show shared_buffers'")
    assert f">{shared_buffers}</td>" in html
    assert '<td class="keep">site</td>' in html
    said = " ".join(done.stdout.split())
    assert "does not answer" not in said
    assert "Missing: No backups of PostgreSQL" in said


def test_what_linode_counts_is_what_the_hosts_use(fleet: Fleet, tmp_path: Path) -> None:
    numbers = {name: fleet.hostvars[name]["linode_id"] for name, _host in fleet}

    def counted() -> bool:
        for number in numbers.values():
            account("GET", f"/linode/instances/{number}/stats")
        return True

    eventually(counted, FIRST_LOOK, "Linode has statistics of every host")
    name = fleet.names("postgres")[0]

    def database() -> dict[str, Any]:
        found: dict[str, Any] = account("GET", f"/linode/instances/{numbers[name]}/stats")["data"]
        return found

    def row(data: dict[str, Any]) -> str:
        cpu = [value for _time, value in data["cpu"]]
        return f'>{name}</td><td class="keep">{mean(cpu):.0f} % <span class="soft">/ {max(cpu):.0f} %'

    before = database()
    assert max(value for _time, value in before["cpu"]) > 0
    assert max(value for _time, value in before["netv4"]["private_in"]) > 0
    page = tmp_path / "report.html"
    done = play("report", stack_reports=str(tmp_path))
    assert done.returncode == 0, done.stdout
    html = page.read_text()
    assert html.count('class="spark"') >= len(numbers)
    # it may have looked once more meanwhile
    assert row(before) in html or row(database()) in html
    assert "Stats are unavailable" not in done.stdout
