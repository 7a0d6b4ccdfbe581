# SPDX-License-Identifier: GPL-3.0-or-later
"""The primary is lost in every way, while a service writes. One story, in order."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from conftest import INVENTORY, PROJECT, SECRETS, Fleet, eventually, play, read_fleet

sys.path.insert(0, str(PROJECT / "tests/drills"))
from fleets import Account, Ssh, accounted, leader, lose_power, members, ssh_words, whole
from traffic import Traffic

OFF = 60  # seconds that a host without power stays off
UNIT = "postgresql@17-main"
DATA = "/var/lib/postgresql/17/main"
# The member's data on a volume with 200 MiB to spare, and back.
ON_A_SMALL_DISK = f"""set -e; systemctl stop {UNIT}; mv {DATA} {DATA}.own; mkdir -m 700 {DATA}
mount -t tmpfs -o size=$(($(du -sm {DATA}.own | cut -f1) + 200))m tmpfs {DATA}
cp -a {DATA}.own/. {DATA}/; chown postgres: {DATA}; chmod 700 {DATA}; systemctl start {UNIT}"""
ON_ITS_OWN_DISK = (
    f"""set -e; systemctl stop {UNIT}; umount {DATA}; rmdir {DATA}; mv {DATA}.own {DATA}; systemctl start {UNIT}"""
)
# Nothing comes in from the VPC, and nothing goes out to it, without a word.
CUT = """nft -f - <<END
table inet cut {
  chain in { type filter hook input priority 0; iifname eth1 drop; }
  chain out { type filter hook output priority 0; oifname eth1 drop; }
}
END"""
VARIABLES = INVENTORY / "group_vars/all/fleet.yml"
ITEM = json.dumps({"name": "traffic"})


def ssh_of(fleet: Fleet) -> Ssh:
    return ssh_words({name: fleet.hostvars[name]["ansible_host"] for name in fleet.names("postgres")}, SECRETS)


@pytest.fixture(scope="module")
def ssh(fleet: Fleet) -> Ssh:
    return ssh_of(fleet)


@contextmanager
def nothing_lost(fleet: Fleet, ssh: Ssh) -> Iterator[Account]:
    """Write all the while, until all members are back; nothing that was acknowledged is lost."""
    with accounted(ssh, fleet.front_door, lambda: leader(ssh)) as account:
        yield account
        eventually(lambda: whole(ssh), 180, "all members back")


def moved_from(ssh: Ssh, former: str) -> bool:
    return leader(ssh) not in ("", former)


def test_three_members_agree(fleet: Fleet, ssh: Ssh) -> None:
    assert whole(ssh)
    assert set(fleet.states().values()) == {"running"}


def test_a_switchover_fails_no_request(fleet: Fleet, ssh: Ssh) -> None:
    former = leader(ssh)
    with (
        nothing_lost(fleet, ssh) as account,
        Traffic(fleet.front_door, "--get", "/items/1", "--post", "/items", "--body", ITEM) as traffic,
    ):
        run = play("switchover")
        assert run.returncode == 0, run.stdout[-4000:]
        assert moved_from(ssh, former)
    traffic.check()
    assert account.report and set(account.report.outcomes) == {"ok"}, account.report


def test_the_primarys_host_loses_its_power(fleet: Fleet, ssh: Ssh) -> None:
    lost = leader(ssh)
    with nothing_lost(fleet, ssh):
        lose_power(lost, OFF)
        eventually(lambda: moved_from(ssh, lost), OFF, "a new primary, while the old one is off")
    assert members(ssh)[lost] == ("Quorum Standby", "streaming")


@pytest.mark.parametrize(
    ("fault", "end"),
    [
        # of the server and of Patroni: a server whose Patroni is gone is not a primary that nobody watches
        ("pkill -KILL -o -x postgres", ""),
        ("pkill -KILL -x patroni", ""),
        (f"systemctl kill --signal STOP {UNIT}", f"systemctl kill --signal CONT {UNIT}"),
        (CUT, "nft delete table inet cut"),
    ],
    ids=["server killed", "Patroni killed", "both frozen", "cut off"],
)
def test_a_primary_that_fails(fleet: Fleet, ssh: Ssh, fault: str, end: str) -> None:
    failed = leader(ssh)
    with nothing_lost(fleet, ssh):
        subprocess.run([*ssh[failed], fault], check=True)
        if end:
            eventually(
                lambda: moved_from({name: words for name, words in ssh.items() if name != failed}, failed),
                60,
                "a new primary",
            )
            subprocess.run([*ssh[failed], end], check=True)
        else:
            time.sleep(5)


def test_a_full_disk_stops_writes_alone_until_there_is_room(fleet: Fleet, ssh: Ssh) -> None:
    small = next(name for name in fleet.names("postgres") if name != leader(ssh))
    host = fleet.host(small)
    host.check_output(ON_A_SMALL_DISK)
    eventually(lambda: whole(ssh), 60, "the member is back, on its small disk")
    moved = play("switchover", switchover_to=small)
    assert moved.returncode == 0, moved.stdout[-4000:]
    with nothing_lost(fleet, ssh):
        with Traffic(fleet.front_door, "--get", "/items/1") as reads:
            host.run(f"head -c 2G /dev/zero >{DATA}/filler")
            time.sleep(15)
            host.check_output(f"rm {DATA}/filler")
        eventually(
            lambda: httpx.post(f"{fleet.front_door}/items", json={"name": "room"}, timeout=15).is_success, 60, "writes"
        )
    reads.check()
    host.check_output(ON_ITS_OWN_DISK)
    eventually(lambda: whole(ssh), 90, "the member is back, on its own disk")


def test_without_a_quorum_of_etcd_the_primary_stays(fleet: Fleet, ssh: Ssh) -> None:
    """It asks the other members themselves: failsafe mode."""
    primary = leader(ssh)
    with (
        nothing_lost(fleet, ssh),
        Traffic(fleet.front_door, "--post", "/items", "--body", ITEM, "--get", "/items/1") as traffic,
    ):
        for host in fleet.tier("etcd")[:2]:
            host.check_output("systemctl stop etcd")
        time.sleep(30)
        for host in fleet.tier("etcd")[:2]:
            host.check_output("systemctl start etcd")
        eventually(lambda: whole(ssh), 60, "the members have their store again")
        assert leader(ssh) == primary
    traffic.check()


def tiers(postgres: int, etcd: int) -> dict[str, dict[str, object]]:
    """Return fleet_tiers of the scenario with so many members."""
    tiers: dict[str, dict[str, object]] = yaml.safe_load((INVENTORY / "group_vars/all/fleet.yml").read_text())[
        "fleet_tiers"
    ]
    return tiers | {"postgres": tiers["postgres"] | {"count": postgres}, "etcd": tiers["etcd"] | {"count": etcd}}


def days_left(host: Any, address: str, port: int, *options: str) -> int:
    """Return for how many days what a server shows on this port is good for."""
    shown = f"openssl s_client {' '.join(options)} -connect {address}:{port} </dev/null 2>/dev/null"
    end = host.check_output(f'date +%s -d "$({shown} | openssl x509 -noout -enddate | cut -d= -f2)"')
    return round((int(end) - time.time()) / 86400)


def test_members_come_and_certificates_are_renewed_with_no_failed_request(fleet: Fleet, ssh: Ssh) -> None:
    with Traffic(fleet.front_door, "--get", "/items/1", "--post", "/items", "--body", ITEM) as traffic:
        run = play("site", fleet_tiers=tiers(4, 5), certificates_days=120, certificates_renew_days=100)
    assert run.returncode == 0, run.stdout[-4000:]
    traffic.check()
    grown = read_fleet()
    assert whole(ssh_of(grown))
    etcd = grown.tier("etcd")[0]
    files = "--cacert /etc/ssl/fleet/ca.crt --cert /etc/ssl/fleet/host.crt --key /etc/ssl/fleet/host.key"
    listed = etcd.check_output(f"etcdctl {files} --endpoints https://10.0.6.10:2379 member list")
    assert listed.count(", started, ") == 5 and ", true" not in listed, "five members, none of them a learner"
    member = grown.tier("postgres")[0]  # whom all the others let in
    for name, port, options in (
        ("postgres", 5432, ("-starttls", "postgres")),
        ("postgres", 8008, ()),
        ("etcd", 2379, ()),
    ):
        for host in grown.names(name):
            assert days_left(member, grown.hostvars[host]["stack_address"], port, *options) == 120, (host, port)


def test_members_go_with_no_failed_request(fleet: Fleet) -> None:
    gone = ["mol-failover-postgres-4", "mol-failover-etcd-4", "mol-failover-etcd-5"]
    with Traffic(fleet.front_door, "--get", "/items/1", "--post", "/items", "--body", ITEM) as traffic:
        run = play("site", fleet_tiers=tiers(3, 3), fleet_remove=gone)
    assert run.returncode == 0, run.stdout[-4000:]
    traffic.check()
    left = read_fleet()
    assert not set(gone) & set(left.hostvars)
    # Patroni forgets a member 20 s after its last word.
    eventually(lambda: whole(ssh_of(left)), 60, "the others alone")


def test_what_would_lose_the_quorum_or_the_primary_is_refused(ssh: Ssh) -> None:
    even = play("site", fleet_tiers=tiers(3, 2))
    assert even.returncode == 2 and "fleet_tiers.etcd.count is 2: an even number" in " ".join(even.stdout.split())
    if leader(ssh) != (last := "mol-failover-postgres-3"):
        assert play("switchover", switchover_to=last).returncode == 0
    primary = play("site", fleet_tiers=tiers(2, 3), fleet_remove=[last])
    assert primary.returncode == 2
    assert f"fleet_remove names {last}, the primary of PostgreSQL cluster main" in " ".join(primary.stdout.split())


def test_another_ca_is_refused_before_a_host_stops_believing_the_others(fleet: Fleet, ssh: Ssh, tmp_path: Path) -> None:
    elsewhere = tmp_path / "secrets"
    shutil.copytree(SECRETS, elsewhere, ignore=shutil.ignore_patterns("lock", "ca.*"))
    refused = play("site", stack_secrets_dir=str(elsewhere))
    assert refused.returncode == 2
    assert "has the certificate of another CA in /etc/ssl/fleet/ca.crt" in " ".join(refused.stdout.split())
    assert whole(ssh)


def test_members_that_restart_fail_no_write_and_leave_the_primary_where_it_was(fleet: Fleet, ssh: Ssh) -> None:
    primary = leader(ssh)
    settings = INVENTORY / "group_vars/all/settings.yml"
    settings.write_text("postgres_settings: {autovacuum_max_workers: 4}\n")
    try:
        with nothing_lost(fleet, ssh) as account:
            run = play("rejoin")
    finally:
        settings.unlink()
    assert run.returncode == 0, run.stdout[-4000:]
    assert account.report and set(account.report.outcomes) == {"ok"}, account.report
    assert leader(ssh) == primary
    for name in fleet.names("postgres"):
        shown = fleet.host(name).check_output("runuser -u postgres -- psql -XAtc 'show autovacuum_max_workers'")
        assert shown == "4", name
