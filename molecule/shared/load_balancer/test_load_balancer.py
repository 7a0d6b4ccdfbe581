# SPDX-License-Identifier: GPL-3.0-or-later
"""A load balancer before two app hosts: what a client sees of it, the same with each engine."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest
import websockets.sync.client
from conftest import Fleet, eventually, play

ENGINES = ("haproxy", "nginx")
ENGINE = os.environ["MOLECULE_SCENARIO_NAME"].removeprefix("load_balancer_")


def test_every_host_is_up_with_no_failed_unit(fleet: Fleet) -> None:
    states = fleet.states()
    assert set(states.values()) == {"running"}, states


def test_the_engine_alone_is_on(fleet: Fleet) -> None:
    balancer = fleet.tier("load_balancer")[0]
    for engine in ENGINES:
        service = balancer.service(engine)
        assert (service.is_running, service.is_enabled) == (engine == ENGINE, engine == ENGINE), engine


def test_both_app_hosts_answer(fleet: Fleet, client: httpx.Client) -> None:
    heard = {client.get("/").json()["host"] for _ in range(20)}
    assert heard == {name.replace("_", "-") for name in fleet.names("app_server")}


def test_the_app_knows_its_client_and_believes_no_forged_header(client: httpx.Client) -> None:
    seen = client.get("/", headers={"X-Forwarded-For": "192.0.2.99", "X-Forwarded-Proto": "https"}).json()
    assert seen["client"] == "198.51.100.254", "this machine, as the lab's hosts see it"
    assert seen["scheme"] == "http"
    assert "192.0.2.99" not in seen["headers"]["x-forwarded-for"]
    assert seen["headers"]["x-request-id"]


def test_a_websocket_goes_through(fleet: Fleet) -> None:
    with websockets.sync.client.connect(f"ws{fleet.front_door.removeprefix('http')}/ws", open_timeout=5) as socket:
        socket.send("through")
        assert socket.recv(timeout=5) == "through"


def test_the_app_is_not_reachable_past_the_load_balancer(fleet: Fleet) -> None:
    for name in fleet.names("app_server"):
        with pytest.raises(httpx.ConnectTimeout):  # the Cloud Firewall drops it
            httpx.get(f"http://{fleet.hostvars[name]['ansible_host']}:8000/", timeout=2)


def test_no_request_fails_when_an_app_host_stops(fleet: Fleet, client: httpx.Client) -> None:
    stopped = fleet.tier("app_server")[0]
    try:
        stopped.check_output("systemctl stop app")
        assert {client.get("/").status_code for _ in range(50)} == {200}
    finally:
        stopped.check_output("systemctl start app")
    everyone = {name.replace("_", "-") for name in fleet.names("app_server")}
    eventually(lambda: {client.get("/").json()["host"] for _ in range(10)} == everyone, 30, "the host's return")


def test_a_dead_tier_answers_503_with_retry_after(fleet: Fleet, client: httpx.Client) -> None:
    try:
        for host in fleet.tier("app_server"):
            host.check_output("systemctl stop app")
        answer = client.get("/")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
    finally:
        for host in fleet.tier("app_server"):
            host.check_output("systemctl start app")
    eventually(lambda: client.get("/").status_code == 200, 30, "service")


@pytest.mark.parametrize("victim", ["master", "worker"])
def test_the_engine_comes_back_from_a_kill(fleet: Fleet, client: httpx.Client, victim: str) -> None:
    balancer = fleet.tier("load_balancer")[0]
    master = balancer.check_output(f"systemctl show -P MainPID {ENGINE}")
    pid = master if victim == "master" else balancer.check_output(f"pgrep -P {master} | head -1")
    balancer.check_output(f"kill -9 {pid}")
    eventually(lambda: client.get("/").status_code == 200, 30, "service")
    eventually(lambda: balancer.check_output(f"systemctl is-active {ENGINE}") == "active", 30, f"{ENGINE} active")


def say(fleet: Fleet, request: bytes) -> bytes:
    """Send these bytes and return what comes back until the connection is closed."""
    answer = b""
    with socket.create_connection((urlsplit(fleet.front_door).hostname, 80), timeout=20) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(request)
            while part := client.recv(65536):
                answer += part
    return answer


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"rubbish\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"GET / HTTP/1.1\r\nHost: a\r\nbad header: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-Flood: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: flood\r\n" % n for n in range(5_000)) + b"\r\n",
    ],
    ids=["rubbish", "two lengths", "a space in a name", "a long header", "many headers"],
)
def test_malformed_http_is_refused(fleet: Fleet, client: httpx.Client, request_bytes: bytes) -> None:
    answer = say(fleet, request_bytes)
    assert re.match(rb"HTTP/1\.[01] 4(00|31|14)\b|<html>|\Z", answer), answer[:200]
    assert client.get("/").status_code == 200


def test_slow_clients_are_cut_off_and_hold_nobody_up(fleet: Fleet, client: httpx.Client) -> None:
    address = (urlsplit(fleet.front_door).hostname, 80)
    slow = [socket.create_connection(address, timeout=5) for _number in range(300)]
    started = time.monotonic()
    left = set(slow)
    try:
        while left and time.monotonic() - started < 30:
            for connection in list(left):
                try:
                    connection.setblocking(False)
                    connection.send(b"G")
                    connection.recv(1)  # an answer, or the end
                    left.discard(connection)
                except BlockingIOError:
                    pass
                except OSError:
                    left.discard(connection)
            assert client.get("/").elapsed.total_seconds() < 1
            time.sleep(1)
        assert not left, "10 seconds is what a request's head may take"
    finally:
        for connection in slow:
            connection.close()


def test_what_is_asked_for(fleet: Fleet) -> None:
    """The options of both engines, and of HAProxy alone; then the defaults again."""
    both = {"load_balancer_algorithm": "source", "load_balancer_rate_limit": 20, "load_balancer_compression": True}
    own = {"load_balancer_sticky": True, "load_balancer_slow_start": 2} if ENGINE == "haproxy" else {}
    run = play("site", **both, **own)
    assert run.returncode == 0, run.stdout
    front_door = fleet.front_door
    try:
        with httpx.Client(base_url=front_door, timeout=5) as client:
            time.sleep(2)
            seen = [client.get("/") for _number in range(10)]
            assert len({answer.json()["host"] for answer in seen}) == 1
            assert seen[0].headers["content-encoding"] == "gzip"
            assert ("backend" in client.cookies) == (ENGINE == "haproxy")
            time.sleep(2)
            with ThreadPoolExecutor(16) as executor:
                many = list(executor.map(lambda _number: httpx.get(f"{front_door}/", timeout=5), range(200)))
            counts = Counter(answer.status_code for answer in many)
            assert set(counts) == {200, 429}, counts
            limited = next(answer for answer in many if answer.status_code == 429)
            assert limited.headers["retry-after"] == "1"
            assert limited.json() == {"error": "too many requests, try again later"}
    finally:
        again = play("site")
        assert again.returncode == 0, again.stdout


@pytest.mark.skipif(ENGINE == "haproxy", reason="it is what nginx cannot do")
@pytest.mark.parametrize("option", ["load_balancer_sticky", "load_balancer_slow_start"])
def test_what_nginx_cannot_do_is_refused(option: str) -> None:
    run = play("site", **{option: True if option.endswith("sticky") else 10})
    assert run.returncode != 0
    assert f"{option} is" in run.stdout
    assert "but Debian's nginx" in " ".join(run.stdout.split())
