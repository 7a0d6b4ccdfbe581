from __future__ import annotations

import os
import re
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from conftest import External, Serve, Service, wait_for
from websockets.sync.client import connect

GUNICORN = ["gunicorn", "--bind", "127.0.0.1:{port}", "--graceful-timeout", "10", "--worker-class"]
ENGINES = {
    "uvicorn": [*GUNICORN, "uvicorn_worker.UvicornWorker"],
    "gunicorn": [*GUNICORN, "asgi"],
    "granian": ["granian", "--interface", "asgi", "--port", "{port}"],
}


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz"])
def test_health(client: httpx.Client, path: str) -> None:
    assert (client.get(path).status_code, client.get(path).json()) == (200, {"status": "ok"})
    head = client.head(path)
    assert (head.status_code, head.content) == (200, b"")


def test_errors_are_json(client: httpx.Client) -> None:
    assert (client.get("/nowhere").status_code, client.get("/nowhere").json()) == (404, {"error": "Not Found"})
    answer = client.delete("/items/1")
    assert (answer.status_code, answer.json()) == (405, {"error": "Method Not Allowed"})
    assert {"GET", "PUT"} <= set(answer.headers["Allow"].split(", "))


def test_static_files(client: httpx.Client) -> None:
    page = client.get("/", follow_redirects=True)
    assert page.url.path == "/static/"
    assert page.headers["Content-Type"].startswith("text/html")
    assert client.get("/static/index.html").content == page.content
    assert client.get("/static/../settings.py").status_code == 404
    assert client.get("/static/%2e%2e/settings.py").status_code == 404


def test_websocket_echo(service: Service) -> None:
    with connect(service.url.replace("http", "ws") + "/ws") as websocket:
        for message in ("text", "", b"bytes", "x" * 100_000):
            websocket.send(message)
            assert websocket.recv(timeout=5) == message


def leave(url: str, *parts: bytes) -> None:
    """Send the beginning of a request, and be gone without reading what comes."""
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port or 80)) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(0.2)  # until the service works on it


def test_a_websocket_that_is_cut_off_is_no_error(serve: Serve) -> None:
    service = serve()
    key = b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    upgrade = b"GET /ws HTTP/1.1\r\nHost: items\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + key + b"\r\n"
    size = 8 << 20  # more than the connection holds
    # the second answer has nobody left to go to
    leave(service.url, upgrade, b"\x82\xff" + size.to_bytes(8) + bytes(4 + size) + b"\x82\x81" + bytes(4 + 1))
    time.sleep(1)  # until the service has noticed
    assert service.alive() and "Traceback" not in service.log.read_text()


@pytest.mark.parametrize("engine", ENGINES)
def test_drains_before_it_stops(serve: Serve, item_id: int, tmp_path: Path, engine: str) -> None:
    service = serve(ENGINES[engine], RUNTIME_DIRECTORY=str(tmp_path))
    wait_for(lambda: service.ready() == {"status": "ok"}, "the service to be ready")
    (tmp_path / "draining").write_text("1\n")

    wait_for(lambda: service.ready() == {"status": "draining"}, "the drain")
    ready = httpx.get(f"{service.url}/readyz")
    assert (ready.status_code, ready.headers["Connection"]) == (503, "close")
    item = httpx.get(f"{service.url}/items/{item_id}")
    assert (item.status_code, item.headers["Connection"]) == (200, "close")
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(10) == 0


def test_requests_in_flight_are_counted_over_all_workers(serve: Serve, external: External, tmp_path: Path) -> None:
    (tmp_path / "gauge_livesum_999999999.db").write_bytes(b"")  # of a worker that is gone
    service = serve(
        [*ENGINES["uvicorn"], "--workers", "2"],
        RUNTIME_DIRECTORY=str(tmp_path),
    )

    def in_flight() -> float:
        (value,) = re.findall(r"^http_requests_in_flight (\S+)", service.poller.get("/metrics").text, re.MULTILINE)
        return float(value)

    external.latency = 4
    with ThreadPoolExecutor(20) as executor:
        urls = [f"{service.url}/items/{n}?source=replica" for n in range(1, 21)]
        answers = [executor.submit(httpx.get, url, timeout=10) for url in urls]
        wait_for(lambda: in_flight() >= 20, "the requests to be counted", 4)
        assert all(answer.result().is_success for answer in answers)
    wait_for(lambda: in_flight() <= 1, "all but this one to have ended")


def test_all_is_counted_over_all_workers(serve: Serve, item_id: int, tmp_path: Path) -> None:
    service = serve(
        [*ENGINES["uvicorn"], "--workers", "2"], RUNTIME_DIRECTORY=str(tmp_path), METRICS="on", DATABASE_POOL_SIZE="3"
    )

    def value(series: str) -> float:
        found = re.findall(rf"^{re.escape(series)} (\S+)$", httpx.get(f"{service.url}/metrics").text, re.MULTILINE)
        return float(found[0]) if found else 0.0

    def answered(status: str, method: str = "GET", route: str = "/items/{id}", le: str = "+Inf") -> float:
        labels = f'le="{le}",method="{method}",route="{route}",status="{status}"'
        return value(f"http_request_duration_seconds_bucket{{{labels}}}")

    with service.client() as client:
        for _ in range(50):
            assert client.get(f"/items/{item_id}").is_success
        assert client.get("/items/0").status_code == 400
        assert client.put(f"/items/{item_id}", json={"name": "x"}).is_success
        assert client.patch(f"/no/such/{item_id}").status_code == 404
    leave(service.url, b"POST /items HTTP/1.1\r\nHost: items\r\nContent-Length: 10\r\n\r\n{")
    wait_for(lambda: answered("200") == 50, "the answers to be counted", 5)
    assert 25 <= answered("200", le="0.001") <= 50
    wait_for(lambda: answered("499", "POST", "/items") == 1, "one that left to be counted", 5)
    assert "Traceback" not in service.log.read_text()
    assert answered("400") == answered("200", "PUT") == answered("404", "PATCH", "other") == 1
    kinds = [value(f'item_answers_total{{cache="{kind}"}}') for kind in ("memory", "hit", "miss")]
    assert sum(kinds) == 50 and kinds[2] >= 1
    assert value('upstream_calls_total{outcome="ok"}') >= 2
    assert value('database_pool_size{pool="write"}') == value('database_pool_size{pool="read"}') == 6
    assert value('service_release{release="test-release"}') == 2
    assert value("event_loop_lag_seconds_count") > 5
    (worker, _) = sorted(path.stem.rpartition("_")[2] for path in tmp_path.glob("histogram_*.db"))
    os.kill(int(worker), signal.SIGKILL)
    wait_for(lambda: answered("200") >= 50, "what a worker counted to outlive it", 5)


def test_metrics_are_for_the_fleets_own_hosts(client: httpx.Client) -> None:
    assert client.get("/metrics", headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 404
    assert "http_requests_in_flight" in client.get("/metrics").text
