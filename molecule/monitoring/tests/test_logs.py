# SPDX-License-Identifier: GPL-3.0-or-later
"""The logs of every host are on one, are found there, hold no secret and fill no disk."""

from __future__ import annotations

import json
import re
import secrets
import shlex
from typing import Any

import httpx
from conftest import DROPPED, SECRETS, Fleet, dial_from_outside, eventually, play

PORT = 19532
NOT_SECRET = {"ca.crt", "known_hosts", "id_ed25519.pub", "lock", "load_test.lock"}
# as in the inventory, in MiB
JOURNAL, RECEIVED, RECEIVED_FILE = 32, 64, 8
ENTRY = re.compile(r"^ +\d{4}-\d\d-\d\d [\d:.]+Z (\S+) ", re.MULTILINE)


def receiver(fleet: Fleet) -> Any:
    return fleet.tier("monitoring")[0]


def senders(fleet: Fleet) -> dict[str, Any]:
    return {name: host for name, host in fleet if name not in fleet.names("monitoring")}


def received(fleet: Fleet, word: str) -> set[str]:
    """The hosts that have logged *word*, as far as the receiver knows."""
    search = f"journalctl --quiet --directory=/var/log/journal/remote --output=json --grep={word}"
    return {json.loads(line)["_HOSTNAME"] for line in receiver(fleet).run(search).stdout.splitlines()}


def log(hosts: dict[str, Any]) -> str:
    """Have each host log the word that is returned."""
    word = f"word-{secrets.token_hex(8)}"
    for host in hosts.values():
        host.check_output(f"logger --tag=test {word}")
    return word


def everybody(fleet: Fleet) -> set[str]:
    return {name.replace("_", "-") for name in senders(fleet)}


def test_every_host_sends_its_logs(fleet: Fleet) -> None:
    word = log(senders(fleet))
    eventually(lambda: received(fleet, word) == everybody(fleet), 30, "every word has arrived")
    own = log({"monitoring": receiver(fleet)})
    search = f"journalctl --merge --quiet --output=cat --grep={own}"
    eventually(lambda: own in receiver(fleet).run(search).stdout, 10, "its own word is there too")


def test_a_request_is_found_by_its_id_with_its_release(fleet: Fleet) -> None:
    with httpx.Client(base_url=fleet.front_door, timeout=5) as client:
        request = client.get("/livez").raise_for_status().headers["x-request-id"]
    eventually(lambda: received(fleet, request), 30, "it has arrived")
    # beside the others a file that was cut off, as by a loss of power
    cut = receiver(fleet).check_output(
        "cd /var/log/journal/$(cat /etc/machine-id) && head -c 100000 system.journal >system@cut.journal"
        " && realpath system@cut.journal"
    )
    shown = play("logs", request_id=request)
    receiver(fleet).check_output(f"rm {cut}")
    assert shown.returncode == 0, shown.stdout
    (line,) = re.findall(r'\{.*"release".*\}', shown.stdout)
    entry = json.loads(line)
    assert (entry["request_id"], entry["path"], entry["status"]) == (request, "/livez", 200)


def test_a_search_is_bounded_and_told_by_host(fleet: Fleet) -> None:
    (redis,) = fleet.names("redis")
    for more in ({}, {"fleet_logs": "local"}):
        shown = play("logs", lines=7, host=redis, since="1 day ago", **more)
        assert shown.returncode == 0, shown.stdout
        assert set(ENTRY.findall(shown.stdout)) == {redis.replace("_", "-")}
        assert 0 < len(ENTRY.findall(shown.stdout)) <= 7
    refused = play("logs", grep="[")
    assert refused.returncode != 0 and "missing terminating ]" in refused.stdout


def test_who_cannot_prove_its_name_is_not_let_in(fleet: Fleet) -> None:
    (monitoring,) = fleet.names("monitoring")
    address = fleet.hostvars[monitoring]["stack_address"]
    ask = (
        f"curl --silent --cacert /etc/ssl/fleet/ca.crt --write-out %{{http_code}} --output /dev/null"
        f" --header 'Content-Type: application/vnd.fdo.journal' --data-binary '' https://{address}:{PORT}/upload"
    )
    proven = f"{ask} --cert /etc/ssl/fleet/host.crt --key /etc/ssl/fleet/host.key"
    redis = fleet.tier("redis")[0]
    assert redis.run(ask).stdout == "000"
    assert redis.run(proven).stdout == "202"
    # of the fleet, but no sender
    assert receiver(fleet).run(proven).stdout == "503"
    assert dial_from_outside(fleet.hostvars[monitoring]["ansible_host"], PORT) == DROPPED


def test_no_secret_is_in_the_logs(fleet: Fleet) -> None:
    kept = [path.read_text() for path in SECRETS.iterdir() if path.is_file() and path.name not in NOT_SECRET]
    # of a key, a line in its middle
    words = {lines[len(lines) // 2] for text in kept if (lines := text.strip().splitlines())}
    assert len(words) >= 6
    pattern = "|".join(
        f"[{word[0]}]{re.escape(word[1:])}" for word in words
    )  # which its own command line does not have
    search = (
        f"journalctl --merge --quiet --output=export | grep --text --count --extended-regexp {shlex.quote(pattern)}"
    )
    assert receiver(fleet).run(search).stdout.strip() == "0"


def test_no_program_has_a_log_of_its_own(fleet: Fleet) -> None:
    search = r"find /proc/[0-9]*/fd -lname '/var/log/*' -not -lname '/var/log/journal/*' -printf '%l\n' 2>/dev/null"
    assert {name: host.run(search).stdout for name, host in fleet} == {name: "" for name, _host in fleet}


def test_a_flood_stays_within_the_limits_on_both_sides(fleet: Fleet) -> None:
    redis = {name: host for name, host in senders(fleet).items() if name in fleet.names("redis")}
    (host,) = redis.values()
    flood = "head -c 90000000 /dev/urandom | base64 --wrap=1000"
    unlimited = "--property=LogRateLimitIntervalSec=1s --property=LogRateLimitBurst=100000000"
    host.check_output(f"systemd-run --quiet --wait {unlimited} sh -c {shlex.quote(flood)}")
    word = log(redis)

    def size(on: Any, folder: str) -> int:
        return int(on.check_output(f"du -sm {folder}").split()[0])

    eventually(lambda: received(fleet, word), 120, "what was logged after the flood has arrived")
    assert JOURNAL // 2 < size(host, "/var/log/journal/$(cat /etc/machine-id)") <= JOURNAL + 1
    assert RECEIVED // 2 < size(receiver(fleet), "/var/log/journal/remote") <= RECEIVED + RECEIVED_FILE


def test_the_option_can_be_taken_back(fleet: Fleet) -> None:
    units = "systemd-journal-upload systemd-journal-remote systemd-journal-remote.socket journal-proxy"
    try:
        taken = play("gather_logs", fleet_logs="local")
        assert taken.returncode == 0, taken.stdout
        for _name, host in fleet:
            assert set(host.run(f"systemctl is-active {units}").stdout.split()) == {"inactive"}
            assert host.run("find /etc/systemd/system -name '*journal-*' -not -type d").stdout == ""
    finally:
        given = play("gather_logs")
    assert given.returncode == 0, given.stdout
    word = log(senders(fleet))
    eventually(lambda: received(fleet, word) == everybody(fleet), 60, "every word has arrived")
