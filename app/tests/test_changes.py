from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from conftest import Engine, Serve, Service, Services, wait_for


def poll(service: Service, item_id: int, query: str) -> httpx.Response:
    return httpx.get(f"{service.url}/items/{item_id}/changes?{query}", timeout=15)


def test_woken_by_a_write_on_any_host(serve: Serve, cache: Engine, item_id: int) -> None:
    service, other = serve(CACHE_URL=cache.url), serve(CACHE_URL=cache.url)
    with ThreadPoolExecutor(3) as executor, service.client() as writer:
        polls = [executor.submit(poll, host, item_id, "timeout=10") for host in (service, other)]
        stranger = executor.submit(poll, service, item_id + 1, "timeout=2")
        time.sleep(0.5)
        written = writer.put(f"/items/{item_id}", json={"name": "news"})
        for waiting in polls:
            assert waiting.result().status_code == 200
            assert waiting.result().json() == written.json()
        assert stranger.result().status_code == 204


def test_nothing_is_missed_between_two_polls(service: Service, item_id: int) -> None:
    with service.client() as writer:
        first, second = (writer.put(f"/items/{item_id}", json={"name": name}).json() for name in ("a", "b"))
    assert second["version"] == first["version"] + 1
    assert poll(service, item_id, f"after={first['version']}&timeout=10").json() == second
    assert poll(service, item_id, f"after={second['version']}&timeout=1").status_code == 204


def test_the_time_is_kept(service: Service, item_id: int) -> None:
    started = time.monotonic()
    assert poll(service, item_id, "timeout=1").status_code == 204
    assert 0.9 < time.monotonic() - started < 3


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("timeout=0", "timeout must be a whole number from 1 to 600"),
        ("timeout=601", "timeout must be a whole number from 1 to 600"),
        ("timeout=x", "timeout must be a whole number from 1 to 600"),
        ("after=-1", "after must be a whole number from 0 to"),
    ],
)
def test_bad_input(service: Service, query: str, words: str) -> None:
    answer = poll(service, 1, query)
    assert answer.status_code == 400
    assert words in answer.json()["error"]


def test_unknown_item(service: Service) -> None:
    assert poll(service, 999999999, "after=1&timeout=1").status_code == 404


def test_news_is_heard_again_after_the_cache_was_lost(
    serve: Serve, services: Services, cache: Engine, item_id: int
) -> None:
    service = serve(CACHE_URL=cache.url)
    services.shell(cache.kill)
    try:
        wait_for(lambda: service.ready() == {"status": "degraded", "lost": ["cache"]}, "the loss to be reported")
    finally:
        services.shell(cache.start)
    wait_for(lambda: service.ready() == {"status": "ok"}, "the cache to be back")
    time.sleep(1.5)  # one more try of the subscription
    with ThreadPoolExecutor(1) as executor, service.client() as writer:
        waiting = executor.submit(poll, service, item_id, "timeout=10")
        time.sleep(0.5)
        assert writer.put(f"/items/{item_id}", json={"name": "news"}).is_success
        assert waiting.result().status_code == 200


def test_who_waits_is_answered_before_a_stop(serve: Serve, item_id: int, tmp_path: Path) -> None:
    service = serve(RUNTIME_DIRECTORY=str(tmp_path))
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(poll, service, item_id, "timeout=60")
        time.sleep(0.5)
        (tmp_path / "draining").write_text("1\n")
        assert waiting.result().status_code == 204
