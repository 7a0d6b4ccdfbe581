# SPDX-License-Identifier: GPL-3.0-or-later
"""A load balancer before two app hosts: what a client sees of it, the same with each engine."""

from __future__ import annotations

import os

import httpx
import pytest
import websockets.sync.client
from conftest import Fleet, eventually

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
