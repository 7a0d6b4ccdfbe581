# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens to a Linode, in order, also when something stops half-way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lab_server import Server, wait_for

from lab.models import Instance
from lab.settings import Settings

PATH = "/linode/instances"
ROOT = Path(__file__).parents[2]


def status(api: Server, linode_id: int) -> str:
    return str(api.get(f"{PATH}/{linode_id}")["status"])


def event(api: Server, linode_id: int, action: str) -> dict[str, object]:
    rows = api.get("/account/events")["data"]
    return next(row for row in rows if row["entity"]["id"] == linode_id and row["action"] == action)


def test_create_boots_step_by_step(api: Server) -> None:
    api.hosts.held = {"create", "start"}
    linode = api.linode(label="demo")["id"]
    wait_for(lambda: api.hosts.named(linode) == ["create"])
    assert status(api, linode) == "provisioning"
    created = event(api, linode, "linode_create")
    assert (created["status"], created["message"]) == ("started", "")
    assert 0 <= created["percent_complete"] < 100  # type: ignore[operator]
    assert created["entity"] == {
        **{"id": linode, "type": "linode", "label": "demo"},
        "url": f"/v4/linode/instances/{linode}",
    }
    assert created["secondary_entity"]["id"] == "linode/debian13"  # type: ignore[index]
    api.hosts.held = {"start"}
    wait_for(lambda: api.hosts.named(linode) == ["create", "start"])
    assert status(api, linode) == "booting"
    assert api.events(linode) == [("linode_create", "finished"), ("linode_boot", "started")]
    api.hosts.held = set()
    api.settled(linode, "running")
    assert api.events(linode) == [("linode_create", "finished"), ("linode_boot", "finished")]
    assert event(api, linode, "linode_boot")["percent_complete"] == 100


def test_not_booted(api: Server) -> None:
    linode = api.linode(booted=False)["id"]
    api.settled(linode, "offline")
    assert api.hosts.named(linode) == ["create"]
    api.post(f"{PATH}/{linode}/boot")
    api.settled(linode, "running")
    assert api.refusals("POST", f"{PATH}/{linode}/boot") == {None: f"Linode {linode} already booted."}


def test_without_an_image_there_is_nothing_to_boot(api: Server) -> None:
    linode = api.linode(image=None, authorized_keys=None)["id"]
    api.settled(linode, "offline")
    assert "has no image" in api.refusals("POST", f"{PATH}/{linode}/boot")[None]
    assert api.hosts.calls == []
    api.delete(f"{PATH}/{linode}")


def test_shutdown_and_reboot(api: Server) -> None:
    linode = api.linode()["id"]
    api.settled(linode, "running")
    for action, passing, after in (("reboot", "rebooting", "running"), ("shutdown", "shutting_down", "offline")):
        api.hosts.held = {"stop"}
        assert api.post(f"{PATH}/{linode}/{action}") == {}
        assert status(api, linode) == passing
        api.hosts.held = set()
        api.settled(linode, after)
    assert api.hosts.named(linode) == ["create", "start", "stop", "start", "stop"]
    assert api.events(linode)[2:] == [("linode_reboot", "finished"), ("linode_shutdown", "finished")]


def test_busy_while_something_is_under_way(api: Server) -> None:
    api.hosts.held = {"create"}
    linode = api.linode()["id"]
    for action in ("boot", "reboot", "shutdown"):
        assert api.refusals("POST", f"{PATH}/{linode}/{action}") == {None: "Linode busy."}
    assert api.put(f"{PATH}/{linode}", label="renamed")["label"] == "renamed"  # names may change meanwhile
    api.hosts.held = set()
    api.settled(linode, "running")
    api.post(f"{PATH}/{linode}/reboot")


def test_a_host_that_cannot_be_made_is_made_by_the_next_boot(api: Server) -> None:
    api.hosts.failing = {"create"}
    linode = api.linode(label="demo")["id"]
    api.settled(linode, "offline")
    failed = event(api, linode, "linode_create")
    assert (failed["status"], failed["message"]) == ("failed", "demo: no create today")
    api.hosts.failing = set()
    api.post(f"{PATH}/{linode}/boot")
    api.settled(linode, "running")
    assert api.hosts.named(linode) == ["create", "delete", "create", "start"]  # what was left is removed first


def test_a_host_that_does_not_boot(api: Server) -> None:
    api.hosts.failing = {"start"}
    linode = api.linode()["id"]
    api.settled(linode, "offline")
    assert api.events(linode) == [("linode_create", "finished"), ("linode_boot", "failed")]


def test_a_host_that_does_not_stop_runs_on(api: Server) -> None:
    linode = api.linode()["id"]
    api.settled(linode, "running")
    api.hosts.failing = {"stop"}
    api.post(f"{PATH}/{linode}/shutdown")
    api.settled(linode, "running")
    assert api.events(linode)[-1] == ("linode_shutdown", "failed")


def test_delete_ends_what_is_under_way(api: Server) -> None:
    api.hosts.held = {"start"}
    linode = api.linode()
    wait_for(lambda: "start" in api.hosts.named(linode["id"]))
    assert api.delete(f"{PATH}/{linode['id']}") == {}
    assert api.hosts.named(linode["id"]) == ["create", "start", "delete"]
    assert api.http.get(f"{PATH}/{linode['id']}").status_code == 404
    assert api.http.delete(f"{PATH}/{linode['id']}").status_code == 404
    assert api.events(linode["id"])[1:] == [("linode_boot", "failed"), ("linode_delete", "finished")]
    assert api.lab.addresses.public.is_free(linode["ipv4"][0])


def test_two_deletes_at_once_are_one(api: Server) -> None:
    linode = api.linode()["id"]
    api.settled(linode, "running")
    api.hosts.held = {"delete"}
    threads = [threading.Thread(target=lambda: api.delete(f"{PATH}/{linode}")) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_for(lambda: status(api, linode) == "deleting")
    assert api.refusals("POST", f"{PATH}/{linode}/boot") == {None: "Linode busy."}
    api.hosts.held = set()
    for thread in threads:
        thread.join()
    assert api.hosts.named(linode).count("delete") == 1
    assert api.get(PATH)["results"] == 0


def test_a_delete_that_fails_keeps_the_linode_and_can_be_tried_again(api: Server) -> None:
    linode = api.linode(label="demo")
    api.settled(linode["id"], "running")
    api.hosts.failing = {"delete"}
    reply = api.http.delete(f"{PATH}/{linode['id']}")
    assert (reply.status_code, reply.json()["errors"][0]["reason"]) == (
        *(500,),
        "demo could not be deleted: demo: no delete today",
    )
    assert not api.lab.addresses.public.is_free(linode["ipv4"][0])
    api.hosts.failing = set()
    api.delete(f"{PATH}/{linode['id']}")


def test_lassie_boots_a_host_that_stopped_by_itself(api: Server) -> None:
    linode, other = api.linode()["id"], api.linode()["id"]
    for number in (linode, other):
        api.settled(number, "running")
    api.hosts.power_off(linode)
    wait_for(lambda: ("lassie_reboot", "finished") in api.events(linode))
    api.settled(linode, "running")
    assert api.hosts.named(linode) == ["create", "start", "start"]
    assert api.hosts.named(other) == ["create", "start"]


def test_a_host_that_loses_its_power_stays_off_for_as_long_as_asked(api: Server) -> None:
    linode = api.linode(label="demo")["id"]
    api.settled(linode, "running")
    lost = time.monotonic()
    assert api.http.post(f"{api.address}/lab/power-loss", json={"label": "demo", "seconds": 0.5}).status_code == 200
    wait_for(lambda: status(api, linode) == "booting")
    again = api.http.post(f"{api.address}/lab/power-loss", json={"label": "demo"})
    assert (again.status_code, again.json()["errors"][0]["reason"]) == (
        400,
        "demo is booting; only one that runs can lose its power",
    )
    api.settled(linode, "running")
    assert time.monotonic() - lost >= 0.5
    assert ("lassie_reboot", "finished") in api.events(linode)
    assert api.http.post(f"{api.address}/lab/power-loss", json={"label": "none"}).status_code == 404


def test_lassie_leaves_what_was_shut_down(api: Server) -> None:
    linode = api.linode()["id"]
    api.settled(linode, "running")
    api.post(f"{PATH}/{linode}/shutdown")
    api.settled(linode, "offline")
    looks = looked(api)
    wait_for(lambda: looked(api) >= looks + 3)
    assert api.hosts.named(linode) == ["create", "start", "stop"]


def test_without_lassie_it_stays_off(api: Server) -> None:
    linode = api.linode()["id"]
    api.settled(linode, "running")
    api.put(f"{PATH}/{linode}", watchdog_enabled=False)
    api.hosts.power_off(linode)
    wait_for(lambda: status(api, linode) == "offline")
    assert api.hosts.named(linode) == ["create", "start"]


def looked(api: Server) -> int:
    """Return how often the watchdog has looked, counting from the first call."""
    if not hasattr(api.hosts, "looks"):
        api.hosts.looks = 0  # type: ignore[attr-defined]
        running = api.hosts.running

        async def counted() -> set[int]:
            api.hosts.looks += 1  # type: ignore[attr-defined]
            return await running()

        api.hosts.running = counted  # type: ignore[method-assign]
    return int(api.hosts.looks)  # type: ignore[attr-defined]


def test_all_of_it_survives_a_restart(serve: Callable[..., Server]) -> None:
    first = serve()
    subnet = first.subnet()
    asked = {"purpose": "vpc", "subnet_id": subnet["id"], "ipv4": {"vpc": "10.0.0.9"}}
    running = first.linode(tags=["kept"], interfaces=[{"purpose": "public"}, asked])["id"]
    off = first.linode(booted=False)["id"]
    first.settled(running, "running")
    first.settled(off, "offline")
    paths = (PATH, "/vpcs", "/vpcs/ips", "/tags", "/account/events")
    before = [first.get(path) for path in paths]
    first.stop()

    second = serve(hosts=first.hosts)  # the hosts ran on
    assert [second.get(path) for path in paths] == before
    again = second.linode(interfaces=[{"purpose": "public"}, {"purpose": "vpc", "subnet_id": subnet["id"]}])
    assert again["id"] > max(running, off)
    assert again["ipv4"] == ["198.51.100.4"]  # no address is given twice
    assert "10.0.0.9 is already in use" in str(second.refusals("POST", PATH, **WISH, interfaces=[asked]))


def test_after_a_restart_hosts_are_as_they_should_be(serve: Callable[..., Server]) -> None:
    first = serve()
    on, off = first.linode()["id"], first.linode()["id"]
    first.settled(on, "running")
    first.settled(off, "running")
    first.post(f"{PATH}/{off}/shutdown")
    first.settled(off, "offline")
    first.stop()
    first.hosts._running = {off}  # the machine was rebooted, and somebody started the wrong one

    second = serve(hosts=first.hosts)
    second.settled(on, "running")
    second.settled(off, "offline")
    assert second.hosts._running == {on}
    assert second.events(on)[-1] == ("host_reboot", "finished")


KILLED = """
import asyncio, sys
from pathlib import Path
import httpx
from lab_server import TOKEN, Rig
from lab.api import Lab, create_app
from lab.models import Instance
from lab.settings import Settings
from lab.store import Store

async def until(condition):
    while not condition():
        await asyncio.sleep(0.01)

async def main():
    settings = Settings(state=Path(sys.argv[1]), hosts=False)
    rig = Rig()
    lab = Lab(settings, Store(settings.database, False), rig, TOKEN)
    transport = httpx.ASGITransport(create_app(lab))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1/v4", headers=headers) as http:

        async def create(label, **body):
            wish = {"type": "g6-nanode-1", "region": "us-ord", "label": label, "root_pass": "x" * 11}
            reply = await http.post("/linode/instances", json={**wish, "image": "linode/debian13", **body})
            return f"/linode/instances/{reply.json()['id']}"

        stopping, rebooting, going = [await create(name) for name in ("stopping", "rebooting", "going")]
        await until(lambda: {item.status for item in lab.store.all(Instance)} == {"running"})
        rig.held = {"create", "start", "stop", "delete"}
        await http.post(f"{stopping}/shutdown")
        await http.post(f"{rebooting}/reboot")
        delete = asyncio.create_task(http.delete(going))
        await create("creating")
        await create("unbooted", booted=False)
        await until(lambda: len(rig.calls) == 6 + 5)
        print("held", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


def test_a_killed_process_leaves_nothing_half_done(serve: Callable[..., Server], settings: Settings) -> None:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests/lab")])
    argv = [sys.executable, "-c", KILLED, str(settings.state)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path})
    try:
        assert process.stdout and process.stdout.readline() == "held\n"
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    api = serve()
    wait_for(lambda: not api.lab.lifecycle._work and not api.lab.lifecycle._deletions)
    linodes = {row["label"]: row for row in api.get(PATH)["data"]}
    assert {label: row["status"] for label, row in linodes.items()} == {
        **{"stopping": "offline", "rebooting": "running", "creating": "running", "unbooted": "offline"}
    }
    assert {row["status"] for row in api.get("/account/events")["data"]} == {"finished"}
    assert {label: api.hosts.named(row["id"]) for label, row in linodes.items()} == {
        "stopping": ["stop"],
        "rebooting": ["stop", "start"],
        "creating": ["delete", "create", "start"],  # what the killed one left is removed first
        "unbooted": ["delete", "create"],
    }


def test_a_state_of_the_other_mode_is_refused(settings: Settings) -> None:
    from lab.store import StateError, Store, made_with_hosts

    assert made_with_hosts(settings.database) is None
    Store(settings.database, hosts=False).close()
    assert made_with_hosts(settings.database) is False
    with pytest.raises(StateError, match="without hosts and cannot go on with: `python -m lab stop`"):
        Store(settings.database, hosts=True)


def test_a_save_is_all_or_nothing(settings: Settings) -> None:
    from lab.models import Tag
    from lab.store import Store

    store = Store(settings.database, hosts=False)
    broken = Tag(store.next_id(), {1, 2})  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        store.save(Tag(store.next_id(), "kept"), broken)
    store.close()
    assert Store(settings.database, hosts=False).all(Tag) == []
    assert Store(settings.database, hosts=False).all(Instance) == []


WISH = {"type": "g6-nanode-1", "region": "de-fra-2", "image": "linode/debian13", "root_pass": "long enough"}
