# SPDX-License-Identifier: GPL-3.0-or-later
"""NodeBalancers that really balance, in front of servers on the lab's own network."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPException
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import httpx
import pytest
from balancing import HTTP, LINES, Balancer, Rig, ask, haproxies, private
from certificate import certificate
from lab_server import wait_for

from lab.network import MACHINE, balancer_namespace, namespaces

SOON = 5.0  # seconds: a check interval of 2, and time to be scheduled


@pytest.fixture(autouse=True)
def all_well(rig: Rig) -> Iterator[None]:
    yield
    for number in range(3):
        rig.status(number, 200)
    for row in rig.api.get("/nodebalancers")["data"]:
        rig.api.delete(f"/nodebalancers/{row['id']}")


def test_round_robin_and_who_asks(rig: Rig) -> None:
    front = Balancer(rig, "accept", "accept")
    assert front.answering(20) == {"node-a": 10, "node-b": 10}
    said = front.ask(headers={"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "gopher"})
    headers = [(name.lower(), value) for name, value in said["headers"]]
    assert [value for name, value in headers if name == "x-forwarded-for"] == ["192.0.2.7", MACHINE]
    assert [value for name, value in headers if name == "x-forwarded-proto"] == ["http"]
    vpc = rig.api.get(f"{front.path}/vpcs")["data"][0]
    assert IPv4Address(said["peer"]) in IPv4Network(vpc["ipv4_range"])
    reply = httpx.get(f"http://{front.address}/", trust_env=False)
    assert reply.headers["connection"] == "close"


def test_weights(rig: Rig) -> None:
    front = Balancer(rig, "accept", "accept")
    front.set(0, weight=30)
    front.set(1, weight=10)
    assert front.answering(20) == {"node-a": 15, "node-b": 5}


def test_a_node_that_is_shut_down_goes_down_and_comes_back(rig: Rig) -> None:
    front = Balancer(rig, "accept", "accept", check="connection")
    assert front.states() == ["Unknown"] * 2 or "UP" in front.states()
    wait_for(lambda: front.health() == (2, 0), SOON)
    linode = f"/linode/instances/{rig.linodes[0]['id']}"
    rig.api.post(f"{linode}/shutdown")
    rig.api.settled(rig.linodes[0]["id"], "offline")
    assert front.answering(10) == {"node-b": 10}  # a refused connection goes to another node, before a check says so
    wait_for(lambda: front.states() == ["DOWN", "UP"] and front.health() == (1, 1), SOON)
    rig.api.post(f"{linode}/boot")
    rig.api.settled(rig.linodes[0]["id"], "running")
    wait_for(lambda: front.health() == (2, 0), 2 * SOON)
    assert front.answering(10) == {"node-a": 5, "node-b": 5}


def test_a_check_of_http_wants_a_good_status(rig: Rig) -> None:
    front = Balancer(rig, "accept", "accept", check="http", check_path="/ready?now", check_passive=False)
    wait_for(lambda: front.health() == (2, 0), SOON)
    rig.status(1, 503)
    wait_for(lambda: front.states() == ["UP", "DOWN"], SOON)
    assert front.answering(10) == {"node-a": 10}


def test_a_check_of_the_body_wants_its_text(rig: Rig) -> None:
    front = Balancer(rig, "accept", "accept", check="http_body", check_path="/", check_body='"node": "node-b"')
    wait_for(lambda: front.states() == ["DOWN", "UP"], SOON)
    assert front.answering(5) == {"node-b": 5}


def test_a_passive_check_needs_one_bad_answer(rig: Rig) -> None:
    front = Balancer(rig, "accept", "accept", check="connection", check_interval=3600, check_timeout=30)
    rig.status(0, 500)
    codes = Counter(httpx.get(f"http://{front.address}/", trust_env=False).status_code for _ in range(10))
    assert codes == {500: 1, 200: 9}
    assert front.states()[0] == "DOWN"


def test_a_drained_node_keeps_its_connections_and_gets_no_new_one(rig: Rig) -> None:
    front = Balancer(rig, "accept", "accept", protocol="tcp")
    open_ones = [front.connect() for _ in range(4)]
    before = [connection.say("before")[0] for connection in open_ones]
    assert Counter(before) == {"node-a": 2, "node-b": 2}
    front.set(0, mode="drain")
    assert {front.connect().say("new")[0] for _ in range(6)} == {"node-b"}
    assert [connection.say("after")[0] for connection in open_ones] == before
    front.set(0, mode="accept")
    assert {front.connect().say("new")[0] for _ in range(6)} == {"node-a", "node-b"}
    assert [connection.say("at last")[0] for connection in open_ones] == before


def test_a_drained_node_keeps_who_is_pinned_to_it(rig: Rig) -> None:
    front = Balancer(rig, "accept", "accept", stickiness="http_cookie")
    with httpx.Client(base_url=f"http://{front.address}", trust_env=False) as browser:
        first = browser.get("/").json()["node"]
        number = ("node-a", "node-b").index(first)
        front.set(number, mode="drain")
        assert {browser.get("/").json()["node"] for _ in range(4)} == {first}
    assert first not in front.answering(4)


def test_a_rejecting_node_gets_nothing(rig: Rig) -> None:
    front = Balancer(rig, "accept", "reject", check="connection")
    assert front.answering(10) == {"node-a": 10}
    wait_for(lambda: front.states() == ["UP", "Unknown"], SOON)


def test_backups_serve_only_when_all_others_are_down(rig: Rig) -> None:
    front = Balancer(rig, "accept", "backup", "backup", check="http", check_path="/")
    wait_for(lambda: front.health() == (3, 0), SOON)
    assert front.answering(6) == {"node-a": 6}
    rig.status(0, 503)
    wait_for(lambda: front.states()[0] == "DOWN", SOON)
    assert front.answering(6) == {"node-b": 3, "node-c": 3}
    rig.status(0, 200)
    wait_for(lambda: front.states()[0] == "UP", 2 * SOON)
    assert front.answering(6) == {"node-a": 6}


def test_proxy_headers_carry_the_clients_address(rig: Rig) -> None:
    front = Balancer(rig, "accept", protocol="tcp", proxy_protocol="v2")
    connection = front.connect()
    port = connection._socket.getsockname()[1]
    header = bytes.fromhex(connection.say("hello")[1])
    assert (header[:12], header[12:14]) == (b"\r\n\r\n\0\r\nQUIT\n", b"\x21\x11")  # version 2, PROXY, TCP over IPv4
    assert (str(IPv4Address(header[16:20])), int.from_bytes(header[24:26])) == (MACHINE, port)
    assert (str(IPv4Address(header[20:24])), int.from_bytes(header[26:28])) == (front.address, 80)

    rig.api.put(front.config_path, proxy_protocol="v1")
    connection = front.connect()
    words = bytes.fromhex(connection.say("hello")[1]).decode().split()
    assert words == ["PROXY", "TCP4", MACHINE, front.address, str(connection._socket.getsockname()[1]), "80"]


def test_a_cookie_and_a_table_hold_a_client(rig: Rig) -> None:
    cookies = Balancer(rig, "accept", "accept", stickiness="http_cookie")
    with httpx.Client(base_url=f"http://{cookies.address}", trust_env=False) as browser:
        nodes = {browser.get("/").json()["node"] for _ in range(6)}
        assert len(nodes) == 1 and browser.cookies["NB_SRVID"].startswith("srv")
    assert len(cookies.answering(4)) == 2

    table = Balancer(rig, "accept", "accept", "accept", stickiness="table")
    (first,) = table.answering(6)
    table.set(2, weight=50)  # the table is known to the process that follows
    time.sleep(0.5)
    assert table.answering(6) == {first: 6}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of TLS 1.1, which is what is tried
def test_https_ends_here(rig: Rig) -> None:
    cert, key = certificate("www.example.com")
    front = Balancer(rig, "accept", port=443, protocol="https", ssl_cert=cert, ssl_key=key)
    context = ssl.create_default_context(cadata=cert)
    context.check_hostname = False
    said = securely(front, context)
    assert ["X-Forwarded-Proto", "https"] in [[name.title(), value] for name, value in said["headers"]]
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(httpx.ConnectError):
        securely(front, old)
    rig.api.put(front.config_path, cipher_suite="legacy")
    assert securely(front, old)["node"] == "node-a"
    (pem,) = rig.settings.state.glob(f"nb-{front.id}-*.pem")
    assert pem.stat().st_mode & 0o777 == 0o600
    rig.api.put(front.config_path, protocol="http")
    assert not pem.exists()


def securely(front: Balancer, context: ssl.SSLContext) -> Any:
    return httpx.get(f"https://{front.address}/", verify=context, trust_env=False).raise_for_status().json()


def test_a_client_in_a_hurry_is_throttled(rig: Rig) -> None:
    front = Balancer(rig, "accept", balancer={"client_conn_throttle": 3})
    time.sleep(1.1)
    served = 0
    for _ in range(10):
        try:
            served += bool(front.ask())
        except (OSError, HTTPException):
            pass
    assert 3 <= served < 10
    time.sleep(2.1)  # what was refused counts too, and fades in two seconds
    assert front.ask()["node"] == "node-a"


def test_private_nodes_see_a_private_address(rig: Rig) -> None:
    node = {"label": "first", "address": f"{private(rig.linodes[0]['id'])}:{HTTP}"}
    made = rig.api.post("/nodebalancers", region="de-fra-2", configs=[{"nodes": [node]}])
    said = ask(made["ipv4"])
    assert said["node"] == "node-a" and IPv4Address(said["peer"]) in IPv4Network("192.168.255.0/24")


def test_ports_come_and_go_while_others_serve(rig: Rig) -> None:
    front = Balancer(rig, "accept")
    node = {"label": "first", "address": f"{rig.vpc_address(1)}:{LINES}", "subnet_id": rig.subnet["id"]}
    port = rig.api.post(f"{front.path}/configs", port=81, protocol="tcp", nodes=[node])
    with socket.create_connection((front.address, 81), timeout=5) as connection:
        connection.sendall(b"hello\n")
        assert connection.recv(100) == b"node-b  hello\n"
        rig.api.delete(f"{front.path}/configs/{port['id']}")
        connection.sendall(b"still\n")
        assert connection.recv(100) == b"node-b  still\n"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((front.address, 81), timeout=5)
    assert front.ask()["node"] == "node-a"


def test_changes_under_load_lose_no_request(rig: Rig) -> None:
    front = Balancer(rig, "accept", "accept", check="http", check_path="/", client_conn_throttle=0)
    wait_for(lambda: front.health() == (2, 0), SOON)
    ended = threading.Event()
    served: Counter[str] = Counter()
    failures: list[str] = []

    def load() -> None:
        while not ended.is_set():
            try:
                served[front.ask()["node"]] += 1
            except (OSError, HTTPException) as error:
                failures.append(repr(error))

    clients = [threading.Thread(target=load) for _ in range(4)]
    for client in clients:
        client.start()
    for change in range(3):
        front.set(0, weight=50 + change)
        added = {"label": "third", "address": f"{rig.vpc_address(2)}:{HTTP}", "subnet_id": rig.subnet["id"]}
        third = rig.api.post(f"{front.config_path}/nodes", **added)
        front.set(1, mode="drain")
        rig.api.put(front.config_path, algorithm=("leastconn", "roundrobin")[change % 2])
        front.set(1, mode="accept")
        rig.api.delete(f"{front.config_path}/nodes/{third['id']}")
    ended.set()
    for client in clients:
        client.join()
    assert failures == []
    assert served.keys() == {"node-a", "node-b", "node-c"} and served.total() > 200


def test_a_node_stays_down_over_a_reload(rig: Rig) -> None:
    front = Balancer(rig, "accept", "accept", check="http", check_path="/", check_passive=False)
    rig.status(0, 503)
    wait_for(lambda: front.states() == ["DOWN", "UP"], SOON)
    front.set(1, weight=7)
    assert front.states() == ["DOWN", "UP"]
    assert front.answering(5) == {"node-b": 5}


def test_it_holds_what_the_machine_allows(rig: Rig) -> None:
    front = Balancer(rig, "accept", balancer={"type": "premium"})
    (shown,) = rig.api.get(f"{rig.api.address}/lab/state")["nodebalancers"]
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(str(rig.settings.state / f"nb-{front.id}.sock"))
        control.sendall(b"show info\n")
        said = dict(line.split(": ", 1) for line in control.makefile().read().splitlines() if ": " in line)
    assert int(said["Maxconn"]) == shown["connections"] <= 100_000
    assert front.ask()["node"] == "node-a"


def test_what_passes_is_counted(rig: Rig) -> None:
    front = Balancer(rig, "accept")
    for _ in range(30):
        front.ask()
    wait_for(lambda: (rig.api.get(front.path)["transfer"]["in"] or 0) > 0, SOON)
    wait_for(lambda: sum(row[1] for row in stats(rig, front)["connections"]) == 30, SOON)
    transfer = rig.api.get(front.path)["transfer"]
    assert transfer["out"] * (1 << 20) > 30 * 100 and transfer["total"] == transfer["in"] + transfer["out"]


def stats(rig: Rig, front: Balancer) -> dict[str, list[list[float]]]:
    data: dict[str, list[list[float]]] = rig.api.get(f"{front.path}/stats")["data"]
    return data


def test_one_that_ends_by_itself_is_started_again(rig: Rig) -> None:
    front = Balancer(rig, "accept")
    for pid in haproxies(front.id):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not haproxies(front.id), SOON)
    wait_for(lambda: reachable(front), SOON)


def reachable(front: Balancer) -> bool:
    try:
        return bool(front.ask())
    except (OSError, HTTPException):
        return False


def test_it_ends_with_the_lab_and_comes_back_with_it(rig: Rig) -> None:
    front = Balancer(rig, "accept", stickiness="table")
    assert reachable(front)
    rig.api.stop()
    assert haproxies(front.id) == [] and not reachable(front)
    rig.api = rig.serve()
    assert front.ask()["node"] == "node-a"
    front.set(0, weight=5)
    assert reachable(front)


KILLED = """
import asyncio, sys
from pathlib import Path
from lab.balancers import HaproxyBalancers
from lab.haproxy import Balancer
from lab.models import NodeBalancer, NodeBalancerConfig
from lab.network import Network

async def main():
    folder = Path(sys.argv[1])
    record = NodeBalancer(1, "held", "de-fra-2", "common", "198.51.100.240", "192.168.255.200", "legacy")
    await HaproxyBalancers(folder, Network(folder)).apply(Balancer(record, (NodeBalancerConfig(2, 1),)))
    print("up", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_it_ends_with_a_lab_that_is_killed(rig: Rig, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    argv = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment) as lab:
        assert lab.stdout and lab.stdout.readline() == "up\n"
        assert len(haproxies(1)) == 2
        lab.kill()
    wait_for(lambda: not haproxies(1), SOON)
    asyncio.run(rig.hosts.network.remove_balancer(1))


def test_nothing_of_a_deleted_one_is_left(rig: Rig) -> None:
    front = Balancer(rig, "accept")
    pids = [pid for pid in haproxies(front.id) if is_haproxy(pid)]
    assert len(pids) == 2  # a master and its worker
    rig.api.delete(front.path)
    assert balancer_namespace(front.id) not in asyncio.run(namespaces())
    assert not any(is_haproxy(pid) for pid in pids)
    assert list(rig.settings.state.glob("nb-*")) == []


def is_haproxy(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text() == "haproxy\n"
    except FileNotFoundError:
        return False
