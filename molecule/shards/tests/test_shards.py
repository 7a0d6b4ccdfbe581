# SPDX-License-Identifier: GPL-3.0-or-later
"""Two PostgreSQL clusters: one of them lost, shards moved from one to the other under load. One story, in order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from ansible_collections.c50k.stack.plugins.module_utils.postgres_clusters import parse_shards, ranges
from conftest import PROJECT, SECRETS, Fleet, command, eventually, play

sys.path.insert(0, str(PROJECT / "tests/drills"))
from fleets import names, ssh_words
from traffic import Traffic
from writes import Writing, accounts

SHARDS = {"main": parse_shards("0-127"), "two": parse_shards("128-255")}
PRIMARIES = {"main": "mol-shards-postgres-1", "two": "mol-shards-postgres-3"}
MANY = 200_000  # items of a shard, so that its move takes a while


def sql(fleet: Fleet, cluster: str, statement: str) -> list[str]:
    """Return the lines that the primary of a cluster answers."""
    host = fleet.host(PRIMARIES[cluster])
    return str(host.check_output("runuser -u postgres -- psql -XAtc %s app", statement)).split()


def clusters_of(fleet: Fleet, condition: str) -> list[str]:
    """Return for each item of the condition the cluster that has it."""
    found = {cluster: sql(fleet, cluster, f"select id from items where {condition}") for cluster in PRIMARIES}
    return [cluster for cluster, ids in found.items() for _id in ids]


def owned(fleet: Fleet, cluster: str) -> set[int]:
    return set(map(int, sql(fleet, cluster, "select id from shards where owned")))


def write(client: httpx.Client, name: str) -> dict[str, Any]:
    answer = client.post("/items", json={"name": name})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture(scope="module")
def items(fleet: Fleet) -> dict[str, list[dict[str, Any]]]:
    """Some items on each cluster, each of a shard of its own. One of the same name goes to the same shard."""
    found: dict[str, dict[int, dict[str, Any]]] = {cluster: {} for cluster in SHARDS}
    with httpx.Client(base_url=fleet.front_door, timeout=10) as client:
        for number in range(100):
            item = write(client, f"shards {number}")
            shard = item["id"] % 256
            found["main" if shard in SHARDS["main"] else "two"].setdefault(shard, item)
    return {cluster: list(of_shards.values()) for cluster, of_shards in found.items()}


@pytest.fixture(scope="module")
def moved(items: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    """A map with two shards of main on two: those of its first two items."""
    moving = {item["id"] % 256 for item in items["main"][:2]}
    return {"main": ranges(SHARDS["main"] - moving), "two": ranges(SHARDS["two"] | moving)}


@contextmanager
def unharmed(fleet: Fleet, item: dict[str, Any]) -> Iterator[None]:
    """Read and write the shard of an item, and write all others: none fails, and all that was written is there once."""
    same_name = f"name = '{item['name']}'"
    before = len(clusters_of(fleet, same_name))
    body = json.dumps({"name": item["name"]})
    asked = ["--get", f"/items/{item['id']}?source=replica", "--post", "/items", "--body", body]
    with Writing(fleet.front_door) as writing, Traffic(fleet.front_door, *asked) as traffic:
        yield
        time.sleep(2)
    traffic.check()
    ssh = ssh_words({name: fleet.hostvars[name]["ansible_host"] for name in PRIMARIES.values()}, SECRETS)
    report = accounts(writing.writes, [name for words in ssh.values() for name in names(words)])
    print(f"{report.outcomes}; {report.gap} s without one; {report.reasons}")
    report.check()
    assert set(report.outcomes) == {"ok"}, report
    assert len(clusters_of(fleet, same_name)) == before + traffic.report["POST"]["ok"]


def said(run: subprocess.CompletedProcess[str]) -> str:
    return " ".join(run.stdout.split())


def test_both_clusters_have_what_the_map_gives_them(fleet: Fleet, items: dict[str, list[dict[str, Any]]]) -> None:
    for cluster, shards in SHARDS.items():
        assert owned(fleet, cluster) == shards
        held = {int(number) for number in sql(fleet, cluster, "select distinct id & 255 from items")}
        assert held == shards  # of the thousand items that the migrations make, each has some
        ids = {item["id"] for item in items[cluster]}
        assert len(ids) > 10 and ids <= set(map(int, sql(fleet, cluster, "select id from items where id > 1000")))


def test_both_clusters_serve(client: httpx.Client, items: dict[str, list[dict[str, Any]]]) -> None:
    assert client.get("/readyz").json() == {"status": "ok"}
    for cluster, database in (("main", "replica"), ("two", "primary")):  # where it has no replica
        item = items[cluster][0]

        def read(item: dict[str, Any] = item, database: str = database) -> bool:
            answer = client.get(f"/items/{item['id']}?source=replica")
            return answer.status_code == 200 and answer.headers["X-Database"] == database

        eventually(read, 10, f"a {database}'s answer")
    listed = client.get("/items?limit=100").json()
    assert [item["id"] for item in listed["items"]] == list(range(1, 101))
    assert (listed["partial"], listed["missing"]) == (False, [])


def test_a_lost_cluster_takes_its_own_shards_with_it_and_no_others(
    fleet: Fleet, items: dict[str, list[dict[str, Any]]]
) -> None:
    here, lost = (f"/items/{items[cluster][0]['id']}?source=primary" for cluster in ("main", "two"))
    host = fleet.host(PRIMARIES["two"])
    with httpx.Client(base_url=fleet.front_door, timeout=15) as client:
        host.check_output("systemctl stop postgresql@17-two")
        try:
            refused = client.get(lost)
            assert refused.status_code == 503 and int(refused.headers["Retry-After"]) > 0
            assert client.put(lost, json={"name": "new"}).status_code == 503
            assert client.get(here).status_code == 200
            assert client.put(here, json={"name": items["main"][0]["name"]}).status_code == 200
            listed = client.get("/items?limit=10").json()
            assert (listed["partial"], listed["missing"]) == (True, ["two"])
            assert [item["id"] for item in listed["items"]] == list(range(1, 11))
        finally:
            host.check_output("systemctl start postgresql@17-two")
        eventually(lambda: client.get(lost).status_code == 200, 30, "the cluster's return")
        eventually(lambda: not client.get("/items").json()["partial"], 30, "all of the list")
    assert set(fleet.states().values()) == {"running"}


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"shard_map": {"main": "0-128", "two": "128-255"}}, "shard_map gives 128 to both main and two"),
        ({"shard_map": {"main": "0-127", "two": "129-255"}}, "shard_map gives 128 to no cluster"),
        (
            {"shard_map": {"main": "0-255"}},
            "the PostgreSQL cluster two (postgres_cluster), which shard_map does not name",
        ),
        ({"shard_map": {"main": "0-255", "two": "", "three": ""}}, "the cluster three, which no postgres host carries"),
        ({"shard_map": None}, "carry the clusters main, two (postgres_cluster), and shard_map is not given"),
    ],
)
def test_what_cannot_be_is_refused(variables: dict[str, Any], why: str) -> None:
    run = play("validate", **variables)
    assert run.returncode == 2 and why in said(run), run.stdout[-3000:]


def test_each_cluster_has_its_own_backups(fleet: Fleet) -> None:
    for cluster, repository in zip(SHARDS, fleet.tier("backup"), strict=True):
        found = json.loads(repository.check_output("runuser -u postgres -- pgbackrest --output=json info"))
        assert [(row["name"], [made["type"] for made in row["backup"]]) for row in found] == [(cluster, ["full"])]


def test_a_shard_that_cannot_move_is_refused(moved: dict[str, str]) -> None:
    for shards in (256, "", "7-", "1 2"):
        assert f"shard is '{shards}'. Say which to move, of 0 to 255" in said(play("move_shard", shard=shards))
    (shard, *_rest) = SHARDS["main"] - parse_shards(moved["main"])
    run = play("move_shard", shard=shard, shard_map=moved)
    assert run.returncode == 2
    assert "does not run with the clusters and the shard_map of the inventory. Run deploy.yml or site.yml" in said(run)


def test_a_shard_moves_while_it_is_read_and_written(
    fleet: Fleet, items: dict[str, list[dict[str, Any]]], moved: dict[str, str]
) -> None:
    item = items["main"][0]
    shard = item["id"] % 256
    run = play("deploy", shard_map=moved)
    assert run.returncode == 0, run.stdout[-4000:]
    assert owned(fleet, "main") == SHARDS["main"]  # a map alone moves nothing
    with unharmed(fleet, item):
        run = play("move_shard", shard=f"{shard},200-201", shard_map=moved)
        assert run.returncode == 0, run.stdout[-4000:]
    print(said(run)[said(run).index(f"shard {shard}:") :][:150])
    assert "rows from main to two" in said(run) and "shard 201: it is in two already" in said(run)
    assert owned(fleet, "main") == SHARDS["main"] - {shard} and owned(fleet, "two") == SHARDS["two"] | {shard}
    assert set(clusters_of(fleet, f"id & 255 = {shard}")) == {"two"}


def test_a_shard_that_is_there_already_stays(
    fleet: Fleet, items: dict[str, list[dict[str, Any]]], moved: dict[str, str]
) -> None:
    shard = items["main"][0]["id"] % 256
    before = sql(fleet, "two", f"select version from shards where id = {shard}")
    # what a killed run leaves ends before
    fleet.tier("app_server")[0].check_output("systemd-run --collect --unit=app-run sleep 600")
    run = play("move_shard", shard=shard, shard_map=moved)
    assert run.returncode == 0, run.stdout[-4000:]
    assert f"shard {shard}: it is in two already" in said(run)
    assert sql(fleet, "two", f"select version from shards where id = {shard}") == before


def test_a_move_that_is_killed_is_run_again(
    fleet: Fleet, items: dict[str, list[dict[str, Any]]], moved: dict[str, str]
) -> None:
    item = items["main"][1]
    shard = item["id"] % 256
    sql(
        fleet,
        "main",
        "insert into items (id, name, description, price_cents) "
        f"select (1000000 + n) * 256 + {shard}, 'one of many', '', 1 from generate_series(1, {MANY}) as n",
    )
    app = fleet.tier("app_server")[0]
    with unharmed(fleet, item):
        words = command("move_shard", shard=shard, shard_map=moved)
        with subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL) as run:
            copied = f"select 1 from pg_stat_progress_copy where tuples_processed > {MANY // 10}"
            eventually(lambda: sql(fleet, "two", copied), 60, "the copy of the shard")
            os.killpg(run.pid, signal.SIGKILL)
        app.check_output("systemctl kill --signal KILL app-run")
        assert shard in owned(fleet, "main")
        again = play("move_shard", shard=shard, shard_map=moved)
        assert again.returncode == 0, again.stdout[-4000:]
    print(said(again)[said(again).index(f"shard {shard}:") :][:150])
    assert owned(fleet, "main") == parse_shards(moved["main"]) and owned(fleet, "two") == parse_shards(moved["two"])
    assert clusters_of(fleet, f"name = 'one of many' and id & 255 = {shard}") == ["two"] * MANY


def test_a_switchover_is_of_one_cluster(fleet: Fleet, items: dict[str, list[dict[str, Any]]]) -> None:
    refused = play("switchover")
    assert "Say which PostgreSQL cluster is meant: -e cluster=NAME. The hosts carry main, two." in said(refused)
    assert "it can go to no other, as there is no replica" in said(play("switchover", cluster="two"))
    began = sql(fleet, "two", "select pg_postmaster_start_time()")
    with unharmed(fleet, items["two"][0]):
        run = play("switchover", cluster="main")
        assert run.returncode == 0, run.stdout[-4000:]
        PRIMARIES["main"] = "mol-shards-postgres-2"
        assert sql(fleet, "main", "select pg_is_in_recovery()") == ["f"]
    assert sql(fleet, "two", "select pg_postmaster_start_time()") == began
