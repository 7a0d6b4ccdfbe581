from __future__ import annotations

import re
import signal
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


def test_metrics_are_for_the_fleets_own_hosts(client: httpx.Client) -> None:
    assert client.get("/metrics", headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 404
    assert "http_requests_in_flight" in client.get("/metrics").text
