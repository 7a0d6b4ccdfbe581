# SPDX-License-Identifier: GPL-3.0-or-later
"""A load balancer before two app hosts: what a client sees of it, the same with each engine."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
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


@pytest.mark.parametrize(("method", "path"), [("GET", "/slow"), ("GET", "/slow/changes"), ("POST", "/slow")])
def test_a_request_under_way_is_repeated_when_its_host_dies(
    fleet: Fleet, client: httpx.Client, method: str, path: str
) -> None:
    def ask(_number: int) -> int | None:
        try:
            return httpx.request(method, f"{fleet.front_door}{path}", timeout=20).status_code
        except httpx.RemoteProtocolError:
            return None  # closed without an answer

    with ThreadPoolExecutor(8) as clients:
        asked = [clients.submit(ask, number) for number in range(8)]
        time.sleep(1)
        fleet.tier("app_server")[0].check_output("systemctl kill --signal KILL app")
        answers = Counter(answer.result() for answer in asked)
    if method == "POST" or (ENGINE == "haproxy" and path == "/slow/changes"):  # it keeps no copy of a long poll
        assert answers.keys() <= {200, 502} | ({None} if ENGINE == "haproxy" else set())
        assert 0 < answers[200] < 8, answers
    else:
        assert answers == {200: 8}
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


def test_what_nobody_asked_for_is_off(fleet: Fleet, client: httpx.Client) -> None:
    assert client.post("/", content=b"x" * 20_000).status_code == 200, "the application says how large a body may be"
    balancer = fleet.tier("load_balancer")[0]
    assert balancer.run(f"curl --http2-prior-knowledge --silent {fleet.front_door}").rc != 0
    assert client.get("/unlogged").status_code == 200
    assert "/unlogged" not in balancer.check_output(f"journalctl --sync && journalctl --unit {ENGINE} --boot")


def ask(**options: Any) -> None:
    """Run site.yml with these options, and what is not among them as by default."""
    run = play("site", **options)
    assert run.returncode == 0, run.stdout


class TestFunctions:
    """What both engines can be asked for, and what one of them alone."""

    OPTIONS = {
        "load_balancer_algorithm": "source",
        "load_balancer_rate_limit": 20,
        "load_balancer_compression": True,
        "load_balancer_max_body": 1000,
        "load_balancer_http2": True,
        "load_balancer_access_log_share": 50,
    }
    OWN = {"haproxy": {"load_balancer_sticky": True, "load_balancer_slow_start": 2}, "nginx": {}}

    @pytest.fixture(scope="class", autouse=True)
    def folder(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Static files, which nginx serves."""
        folder = tmp_path_factory.mktemp("static")
        (folder / "style.css").write_text("a { color: red }\n")
        (folder / "deep").mkdir()
        (folder / "deep" / "gone.txt").write_text("not for long\n")
        (folder / ".hidden").write_text("stays here\n")
        ask(**self.options(folder))
        return folder

    def options(self, folder: Path) -> dict[str, Any]:
        static = {"load_balancer_static": {"/static/": str(folder)}} if ENGINE == "nginx" else {}
        return self.OPTIONS | self.OWN[ENGINE] | static

    @pytest.fixture(autouse=True)
    def unlimited(self) -> None:
        """Each test begins with its full rate."""
        time.sleep(2)

    def test_a_client_stays_with_its_backend(self, client: httpx.Client) -> None:
        assert len({client.get("/").json()["host"] for _number in range(10)}) == 1
        assert ("backend" in client.cookies) == (ENGINE == "haproxy")

    def test_an_answer_is_compressed(self, client: httpx.Client) -> None:
        assert client.get("/").headers["content-encoding"] == "gzip"

    def test_a_body_too_large_is_refused(self, client: httpx.Client) -> None:
        assert client.post("/", content=b"x" * 1000).status_code == 200
        answer = client.post("/", content=b"x" * 1001)
        assert answer.status_code == 413
        assert answer.json() == {"error": "the body is too large"}
        assert answer.headers["x-request-id"]

    def test_http2_is_spoken_and_http1_still(self, fleet: Fleet, client: httpx.Client) -> None:
        balancer = fleet.tier("load_balancer")[0]
        version = "curl --http2-prior-knowledge --silent --output /dev/null --write-out '%{http_code} %{http_version}'"
        assert balancer.check_output(f"{version} {fleet.front_door}") == "200 2"
        assert client.get("/").http_version == "HTTP/1.1"

    def test_a_share_of_the_requests_is_logged(self, fleet: Fleet, client: httpx.Client) -> None:
        balancer = fleet.tier("load_balancer")[0]
        answers = [client.get("/logged?secret=1") for _number in range(60)]
        ids = {answer.headers["x-request-id"]: answer.status_code for answer in answers}
        assert len(ids) == 60
        journal = f"journalctl --sync && journalctl --unit {ENGINE} --boot --output cat | grep request_id"
        logged = [json.loads(line) for line in balancer.check_output(journal).splitlines()]
        lines = [line for line in logged if line["request_id"] in ids]
        assert 0 < len(lines) < 60
        backends = set(fleet.names("app_server")) | {""}
        for line in lines:
            assert ids[line["request_id"]] == line["status"]
            assert (line["client"], line["method"], line["path"]) == ("198.51.100.254", "GET", "/logged")
            assert line["bytes"] > 0
            assert line["duration_ms"] >= 0
            assert line["backend"] in backends

    @pytest.mark.skipif(ENGINE == "haproxy", reason="it serves no files, and says so")
    def test_static_files_are_served_as_the_folder_has_them(self, client: httpx.Client, folder: Path) -> None:
        answer = client.get("/static/style.css")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/css")
        assert answer.text == "a { color: red }\n"
        seen = {"If-None-Match": answer.headers["etag"]}
        assert client.get("/static/style.css", headers=seen).status_code == 304
        assert client.get("/static/.hidden").status_code == 404
        assert client.get("/static/%2e%2e/style.css").json()["host"], "outside the prefix is the application"
        assert client.get("/static/deep/gone.txt").status_code == 200
        (folder / "deep" / "gone.txt").unlink()
        (folder / "style.css").write_text("a { color: blue }\n")
        ask(**self.options(folder))
        assert client.get("/static/deep/gone.txt").status_code == 404
        assert client.get("/static/style.css", headers=seen).text == "a { color: blue }\n"

    def test_a_client_is_limited(self, fleet: Fleet) -> None:
        # one client for all of them: to make one takes as long as many requests
        with ThreadPoolExecutor(16) as executor, httpx.Client(base_url=fleet.front_door, timeout=5) as client:
            many = list(executor.map(lambda _number: client.get("/"), range(200)))
        counts = Counter(answer.status_code for answer in many)
        assert set(counts) == {200, 429}, counts
        limited = next(answer for answer in many if answer.status_code == 429)
        assert limited.headers["retry-after"] == "1"
        assert limited.json() == {"error": "too many requests, try again later"}


class TestLayer4:
    """Connections instead of requests; then the defaults again."""

    @pytest.fixture(scope="class", autouse=True)
    def mode(self) -> Iterator[None]:
        ask(load_balancer_mode="tcp")
        yield
        ask()

    def seen(self, fleet: Fleet, **headers: str) -> dict[str, Any]:
        """What the application sees of a connection of its own."""
        answer: dict[str, Any] = httpx.get(fleet.front_door, headers=headers, timeout=5).json()
        return answer

    def test_both_app_hosts_answer(self, fleet: Fleet) -> None:
        heard = {self.seen(fleet)["host"] for _ in range(20)}
        assert heard == {name.replace("_", "-") for name in fleet.names("app_server")}

    def test_a_connection_stays_with_its_backend(self, client: httpx.Client) -> None:
        assert len({client.get("/").json()["host"] for _ in range(20)}) == 1

    def test_the_load_balancer_is_the_client_and_no_header_is_believed(self, fleet: Fleet) -> None:
        forged = {"X-Forwarded-For": "192.0.2.99", "X-Forwarded-Proto": "https"}
        seen = self.seen(fleet, **forged)
        addresses = fleet.tier("load_balancer")[0].check_output("hostname --all-ip-addresses").split()
        assert seen["client"] in addresses
        assert seen["scheme"] == "http"
        assert seen["headers"]["x-forwarded-for"] == "192.0.2.99", "it looks at no request"

    def test_a_websocket_goes_through(self, fleet: Fleet) -> None:
        test_a_websocket_goes_through(fleet)

    def test_no_connection_fails_when_an_app_host_stops(self, fleet: Fleet) -> None:
        stopped = fleet.tier("app_server")[0]
        try:
            stopped.check_output("systemctl stop app")
            heard = {self.seen(fleet)["host"] for _ in range(50)}
            assert heard == {fleet.names("app_server")[1].replace("_", "-")}
        finally:
            stopped.check_output("systemctl start app")
        everyone = {name.replace("_", "-") for name in fleet.names("app_server")}
        eventually(lambda: {self.seen(fleet)["host"] for _ in range(10)} == everyone, 30, "the host's return")


REFUSED = {
    "haproxy": {"load_balancer_static": {"/static/": "/tmp"}},
    "nginx": {"load_balancer_sticky": True, "load_balancer_slow_start": 10},
}


@pytest.mark.parametrize(("option", "value"), REFUSED[ENGINE].items())
def test_what_the_engine_cannot_do_is_refused(option: str, value: Any) -> None:
    run = play("site", **{option: value})
    assert run.returncode != 0
    said = " ".join(run.stdout.split())
    assert option in said
    assert {"haproxy": "but HAProxy serves no files", "nginx": "but Debian's nginx"}[ENGINE] in said


def test_the_defaults_are_back(fleet: Fleet, client: httpx.Client) -> None:
    assert client.get("/static/style.css").json()["host"]
    assert "content-encoding" not in client.get("/").headers
    assert client.get("/").json()["client"] == "198.51.100.254"
    assert fleet.tier("load_balancer")[0].run("ls /srv/load_balancer_static").stdout == ""
