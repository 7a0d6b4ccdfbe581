# SPDX-License-Identifier: GPL-3.0-or-later
"""The cache is lost in every way, while a service is asked and written to. One story, in order."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
import yaml
from conftest import INVENTORY, PROJECT, SECRETS, Fleet, eventually, play, read_fleet

sys.path.insert(0, str(PROJECT / "tests/drills"))
from fleets import Ssh, lose_power, ssh_words
from traffic import DIFFERENT, Traffic

WORSE = 250  # milliseconds that the 99th percentile of cached answers may be worse while the cache is lost
TOLD = DIFFERENT + 10  # an item whose writes are waited for; a write takes it out of the cache for a while
OFF = 25  # seconds that a host without power stays off
# Nothing comes in from the VPC, and nothing goes out to it, without a word.
CUT = """nft -f - <<END
table inet cut {
  chain in { type filter hook input priority 0; iifname eth1 drop; }
  chain out { type filter hook output priority 0; oifname eth1 drop; }
}
END"""
ITEM = json.dumps({"name": "traffic"})


def members(fleet: Fleet) -> Ssh:
    """By VPC address, as Redis names them."""
    hosts = {fleet.hostvars[name]["stack_address"]: fleet.hostvars[name] for name in fleet.names("redis")}
    return ssh_words({address: host["ansible_host"] for address, host in hosts.items()}, SECRETS)


@pytest.fixture(scope="module")
def ssh(fleet: Fleet) -> Ssh:
    return members(fleet)


def tiers(redis: int) -> dict[str, dict[str, object]]:
    """Return fleet_tiers of the scenario with so many members."""
    found: dict[str, dict[str, object]] = yaml.safe_load((INVENTORY / "group_vars/all/fleet.yml").read_text())[
        "fleet_tiers"
    ]
    return found | {"redis": found["redis"] | {"count": redis}}


def redis(words: list[str], options: str, *commands: str, login: str = "") -> str:
    """Return what the Redis or Sentinel of a host answers; nothing where the host is off."""
    password = (SECRETS / "cache_admin_password").read_text().strip()
    asked = "\n".join([login or f"AUTH admin {password}", *commands, ""])
    words = [*words, f"timeout 5 redis-cli {options}"]
    return subprocess.run(words, input=asked, capture_output=True, text=True, check=False).stdout.replace("\r", "")


def primary(ssh: Ssh) -> str:
    """Return the address that most Sentinels say; empty while they do not agree."""
    said = (redis(words, "-p 26379", "SENTINEL GET-MASTER-ADDR-BY-NAME main").split() for words in ssh.values())
    votes = Counter(answer[1] for answer in said if len(answer) > 1)
    return next((address for address, count in votes.items() if 2 * count > len(ssh)), "")


def whole(ssh: Ssh) -> bool:
    """Whether one is primary, the others are its replicas, and all Sentinels see each other."""
    address = primary(ssh)
    said = {name: redis(words, "-s /run/redis/redis-server.sock", "INFO replication") for name, words in ssh.items()}
    replicas = [text for name, text in said.items() if name != address]
    agreed = all(
        f"OK {len(ssh)} usable" in redis(words, "-p 26379", "SENTINEL CKQUORUM main") for words in ssh.values()
    )
    return (
        agreed
        and said[address].count(",state=online,") == len(ssh) - 1
        and all(f"master_host:{address}\n" in text and "master_link_status:up" in text for text in replicas)
    )


def hit(url: str) -> bool:
    return all(httpx.get(f"{url}/items/{item}", timeout=5).headers["X-Cache"] == "hit" for item in range(1, 6))


def told(url: str) -> bool:
    """Whether who waits for a write is told of it."""
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(httpx.get, f"{url}/items/{TOLD}/changes?timeout=3", timeout=10)
        time.sleep(0.5)
        written = httpx.put(f"{url}/items/{TOLD}", content=ITEM, timeout=10)
        return written.is_success and waiting.result().status_code == 200


def traffic(fleet: Fleet) -> Traffic:
    return Traffic(fleet.front_door, "--get", "/items/{}", "--post", "/items", "--body", ITEM)


@pytest.fixture(scope="module")
def calm(fleet: Fleet) -> float:
    """The 99th percentile with nothing lost, in milliseconds."""
    for _ in range(TOLD):
        assert httpx.post(f"{fleet.front_door}/items", content=ITEM, timeout=10).status_code == 201
    eventually(lambda: hit(fleet.front_door), 30, "the items just written are cached")
    with traffic(fleet) as found:
        time.sleep(10)
    found.check()
    return found.p99("GET")


@contextmanager
def unharmed(fleet: Fleet, calm: float) -> Iterator[None]:
    """Ask and write all the while; none fails, and few take longer."""
    with traffic(fleet) as found:
        yield
    found.check()
    print(f"p99 {found.p99('GET'):.0f} ms, without a loss {calm:.0f} ms")
    assert found.p99("GET") <= calm + WORSE


def back(fleet: Fleet) -> None:
    """Wait until the service has its cache again."""
    eventually(lambda: hit(fleet.front_door), 10, "answers from the cache")
    eventually(lambda: told(fleet.front_door), 20, "news of writes")


def moved(ssh: Ssh, former: str) -> Callable[[], bool]:
    return lambda: primary(ssh) not in ("", former)


def test_three_members_agree(fleet: Fleet, ssh: Ssh) -> None:
    eventually(lambda: whole(ssh), 10, "three members that agree")
    assert set(fleet.states().values()) == {"running"}


def test_who_does_not_know_the_password_gets_nothing(ssh: Ssh) -> None:
    words = next(iter(ssh.values()))
    for port in (6379, 26379):
        assert "NOAUTH" in redis(words, f"-p {port}", "SENTINEL MASTERS", "GET cache:item:v2:1", login="PING")
        assert "WRONGPASS" in redis(words, f"-p {port}", login="AUTH app wrong-password")


@pytest.mark.parametrize("unit", ["redis-server", "redis-sentinel", "memcached"])
def test_units_are_confined(fleet: Fleet, unit: str) -> None:
    host = fleet.tier("memcached" if unit == "memcached" else "redis")[0]
    said = host.check_output(f"systemd-analyze security --no-pager {unit} | tail -n 1")
    assert float(re.findall(r"[0-9]+[.][0-9]+", said)[0]) <= 2, said


@pytest.mark.parametrize(
    ("fault", "end"),
    [
        ("pkill -KILL -x redis-server", ""),
        ("systemctl kill --signal STOP redis-server", "systemctl kill --signal CONT redis-server"),
        (CUT, "nft delete table inet cut"),
    ],
    ids=["killed", "frozen", "black hole"],
)
def test_a_primary_that_fails(fleet: Fleet, ssh: Ssh, calm: float, fault: str, end: str) -> None:
    failed = primary(ssh)
    with unharmed(fleet, calm):
        subprocess.run([*ssh[failed], fault], check=True)
        eventually(moved(ssh, failed), 20, "a new primary")
        back(fleet)
        if end:
            subprocess.run([*ssh[failed], end], check=True)
        eventually(lambda: whole(ssh), 60, "the old primary is a replica")
        back(fleet)


def test_the_primarys_host_loses_its_power(fleet: Fleet, ssh: Ssh, calm: float) -> None:
    lost = primary(ssh)
    name = next(name for name in fleet.names("redis") if fleet.hostvars[name]["stack_address"] == lost)
    with unharmed(fleet, calm):
        lose_power(name, OFF)
        eventually(moved(ssh, lost), OFF, "a new primary, while the old one is off")
        back(fleet)
        eventually(lambda: whole(ssh), 90, "the old primary is a replica")


def test_a_run_after_a_failover_changes_and_moves_nothing(ssh: Ssh) -> None:
    if primary(ssh) == "10.0.4.10":  # as a run would choose, were none chosen
        redis(ssh["10.0.4.10"], "-p 26379", "SENTINEL FAILOVER main")
        eventually(moved(ssh, "10.0.4.10"), 20, "another primary")
        eventually(lambda: whole(ssh), 60, "the old primary is a replica")
    before = primary(ssh)
    run = play("site")
    assert run.returncode == 0, run.stdout[-4000:]
    assert {int(count) for count in re.findall(r"changed=(\d+)", run.stdout)} == {0}, run.stdout[-4000:]
    assert primary(ssh) == before and whole(ssh)


@pytest.mark.parametrize("count", [2, 4])
def test_an_even_number_is_refused(count: int) -> None:
    run = play("validate", fleet_tiers=tiers(count))
    assert run.returncode == 2
    assert f"redis_failover is sentinel, and the tier redis has {count} hosts" in " ".join(run.stdout.split())


def test_two_members_more_and_memcached_in_their_place(fleet: Fleet, ssh: Ssh) -> None:
    before = primary(ssh)
    run = play("site", fleet_tiers=tiers(5), cache_engine="memcached")
    assert run.returncode == 0, run.stdout[-4000:]
    grown = members(read_fleet())
    assert len(grown) == 5 and primary(grown) == before and whole(grown)
    sets = "exec 3<>/dev/tcp/10.0.7.10/11211; printf 'stats\\r\\nquit\\r\\n' >&3; grep -a cmd_set <&3"
    back(fleet)
    assert int(fleet.tier("memcached")[0].check_output(f"bash -c {sets!r}").split()[-1]) > 0


def make_primary(ssh: Ssh, address: str) -> None:
    """Have the Sentinels move the primary there; they read how each is preferred every ten seconds."""
    for name, words in ssh.items():
        redis(words, "-s /run/redis/redis-server.sock", f"CONFIG SET replica-priority {1 if name == address else 100}")
    time.sleep(11)
    redis(ssh[address], "-p 26379", "SENTINEL FAILOVER main")
    eventually(lambda: primary(ssh) == address and whole(ssh), 60, f"{address} is primary")


def test_two_members_go_and_the_primary_does_not(ssh: Ssh) -> None:
    grown = read_fleet()
    everyone = members(grown)
    last = grown.names("redis")[-2:]
    wanted = {"fleet_tiers": tiers(3), "cache_engine": "memcached", "fleet_remove": last}
    make_primary(everyone, grown.hostvars[last[1]]["stack_address"])
    refused = play("site", **wanted)
    assert f"fleet_remove names {last[1]}, the primary of Redis." in " ".join(refused.stdout.split())
    assert whole(everyone)
    make_primary(everyone, next(iter(ssh)))
    run = play("site", **wanted)
    assert run.returncode == 0, run.stdout[-4000:]
    left = members(read_fleet())
    assert len(left) == 3 and whole(left)


@pytest.mark.parametrize("fault", ["pkill -KILL -x memcached", "systemctl kill --signal STOP memcached"])
def test_a_memcached_that_fails(fleet: Fleet, calm: float, fault: str) -> None:
    host = fleet.tier("memcached")[0]
    with unharmed(fleet, calm):
        host.check_output(fault)
        time.sleep(8)
        host.check_output("systemctl kill --signal CONT memcached")
        back(fleet)
