from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from conftest import External, Serve, Service, Services, free_port, wait_for


def test_first_read_comes_from_the_replica_and_the_second_from_the_cache(client: httpx.Client, item_id: int) -> None:
    first = client.get(f"/items/{item_id}")
    second = client.get(f"/items/{item_id}")

    assert first.status_code == second.status_code == 200
    assert (first.headers["X-Cache"], second.headers["X-Cache"]) == ("miss", "hit")
    assert first.headers["X-Database"] == "replica"
    assert first.headers["X-Upstream"] == "ok"
    assert second.headers["X-Release"] == "test-release"
    assert second.headers["X-Served-By"]
    assert first.content == second.content
    content = first.json()
    assert content.keys() == {"main_item", "related_item"}
    for key, number in (("main_item", item_id), ("related_item", item_id + 1)):
        item = content[key]
        assert item.keys() == {"id", "name", "description", "price_cents", "created_at", "version", "details"}
        assert (item["id"], item["name"]) == (number, f"Item {number}")
        assert item["details"]["id"] == (number - 1) % 100 + 1


def test_external_calls_are_made_at_once(client: httpx.Client, external: External, item_id: int) -> None:
    external.latency = 0.2
    assert client.get(f"/items/{item_id}").is_success
    assert external.most_in_flight == 2


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (500, None, "External service returned status 500"),
        (404, None, "External service returned status 404"),
        (301, b"", "External service returned status 301"),
        (200, b"<html>", "An unexpected error occurred"),
        (200, b'"' + b"x" * 1_000_000 + b'"', "An unexpected error occurred"),
    ],
)
def test_external_errors_are_marked_and_never_cached(
    client: httpx.Client, external: External, item_id: int, status: int, body: bytes | None, error: str
) -> None:
    external.status, external.body = status, body
    for _ in range(2):
        answer = client.get(f"/items/{item_id}")
        assert (answer.status_code, answer.headers["X-Cache"], answer.headers["X-Upstream"]) == (200, "miss", "error")
        assert answer.json()["main_item"]["details"] == {"error": error}
        assert answer.json()["related_item"]["details"] == {"error": error}
        assert answer.json()["main_item"]["name"] == f"Item {item_id}"

    external.reset()
    assert client.get(f"/items/{item_id}").headers["X-Cache"] == "miss"
    assert client.get(f"/items/{item_id}").headers["X-Cache"] == "hit"


def test_external_api_that_refuses_or_is_slow(serve: Serve, external: External, item_id: int) -> None:
    external.latency = 5
    slow = serve(UPSTREAM_TIMEOUT="0.2")
    refusing = serve(UPSTREAM_URL=f"http://127.0.0.1:{free_port()}")
    for service in (slow, refusing, slow):
        with service.client() as client:
            answer = client.get(f"/items/{item_id}")
        assert (answer.status_code, answer.headers["X-Cache"], answer.headers["X-Upstream"]) == (200, "miss", "error")
        assert answer.json()["main_item"]["details"] == {"error": "External service unavailable"}


def test_external_answer_without_an_end(service: Service, external: External, item_id: int) -> None:
    external.endless = True
    with service.client() as client:
        answer = client.get(f"/items/{item_id}")
    assert answer.elapsed.total_seconds() < 2, "it is cut off where it is too long, not where the time is over"
    assert answer.json()["main_item"]["details"] == {"error": "An unexpected error occurred"}


def test_equal_requests_share_one_answer(service: Service, external: External, item_id: int) -> None:
    external.latency = 0.5
    with ThreadPoolExecutor(8) as executor:
        answers = list(executor.map(lambda _: httpx.get(f"{service.url}/items/{item_id}"), range(8)))
    assert {answer.headers["X-Cache"] for answer in answers} == {"miss"}
    assert len({answer.content for answer in answers}) == 1
    assert external.calls == 2


def test_an_item_just_written_is_read_by_each_and_asks_for_its_details_once(
    service: Service, external: External, item_id: int
) -> None:
    with service.client() as client:
        client.put(f"/items/{item_id}", json={"name": "new"})
    calls = external.calls
    external.latency = 2
    with ThreadPoolExecutor(8) as executor:
        answers = list(executor.map(lambda _: httpx.get(f"{service.url}/items/{item_id}", timeout=10), range(8)))
    assert {(answer.headers["X-Cache"], answer.headers["X-Database"]) for answer in answers} == {("bypass", "primary")}
    assert {answer.json()["main_item"]["name"] for answer in answers} == {"new"}
    assert external.calls - calls == 2


def test_one_that_leaves_does_not_end_the_answer_of_the_others(
    service: Service, external: External, item_id: int
) -> None:
    external.latency = 0.8
    with ThreadPoolExecutor(1) as executor:
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{service.url}/items/{item_id}", timeout=0.3)
        other = executor.submit(httpx.get, f"{service.url}/items/{item_id}")
        assert other.result().headers["X-Cache"] == "miss"
    assert external.calls == 2


def test_an_old_answer_is_given_while_it_is_put_together_anew(serve: Serve, external: External, item_id: int) -> None:
    with serve(CACHE_TTL="4").client() as client:
        assert client.get(f"/items/{item_id}").headers["X-Cache"] == "miss"
        assert external.calls == 2
        time.sleep(3.7)  # older than nine tenths of its life, and not at its end
        assert client.get(f"/items/{item_id}").headers["X-Cache"] == "hit"
        wait_for(lambda: external.calls == 4, "the answer to be put together anew")
        time.sleep(1.2)  # past the end of the old one, and of what the worker itself keeps
        assert client.get(f"/items/{item_id}").headers["X-Cache"] == "hit"


def test_a_hot_answer_is_read_anew_before_its_second_is_over(serve: Serve, services: Services, item_id: int) -> None:
    with serve().client() as client:
        assert [client.get(f"/items/{item_id}").headers["X-Cache"] for _ in range(2)] == ["miss", "hit"]
        ends = time.monotonic() + 1
        time.sleep(0.75)
        assert client.get(f"/items/{item_id}").headers["X-Cache"] == "hit"
        time.sleep(0.1)  # for Redis to answer
        services.shell("kill -STOP $(cat /data/redis.pid)")
        try:
            time.sleep(max(0.0, ends + 0.1 - time.monotonic()))
            assert client.get(f"/items/{item_id}").headers["X-Cache"] == "hit", "past the end of what was kept first"
        finally:
            services.shell("kill -CONT $(cat /data/redis.pid)")


def test_a_hot_answer_needs_nobody_for_a_second(serve: Serve, services: Services, item_id: int) -> None:
    service = serve()
    with service.client() as client, service.client() as writer:
        first, second = (client.get(f"/items/{item_id}") for _ in range(2))
        assert [first.headers["X-Cache"], second.headers["X-Cache"]] == ["miss", "hit"]
        services.shell("kill -STOP $(cat /data/redis.pid)")
        try:
            started = time.monotonic()
            hot = client.get(f"/items/{item_id}")
            assert hot.headers["X-Cache"] == "hit"
            assert time.monotonic() - started < 0.2, "less than Redis is waited for"
        finally:
            services.shell("kill -CONT $(cat /data/redis.pid)")
        assert {name: hot.headers[name] for name in second.headers if name != "date"} == {
            name: value for name, value in second.headers.items() if name != "date"
        }
        assert client.get(f"/items/{item_id}?source=primary").headers["X-Cache"] == "bypass"
        assert writer.put(f"/items/{item_id}", json={"name": "changed"}).is_success
        assert client.get(f"/items/{item_id}").json()["main_item"]["name"] == "changed"


def test_an_external_api_that_is_down_is_not_waited_for(serve: Serve, external: External, item_id: int) -> None:
    with serve(UPSTREAM_TIMEOUT="0.3").client() as client:
        external.latency = 1
        for number in range(10):
            assert client.get(f"/items/{item_id}?source=replica").headers["X-Upstream"] == "error", number
        calls = external.calls
        started = time.monotonic()
        answer = client.get(f"/items/{item_id}?source=replica").json()
        assert time.monotonic() - started < 0.25
        assert answer["main_item"]["details"] == {"error": "External service unavailable"}
        assert external.calls == calls
        external.latency = 0
        path = f"/items/{item_id}?source=replica"
        wait_for(lambda: client.get(path).headers["X-Upstream"] == "ok", "calls to go through again", 5)


def test_unknown_item(client: httpx.Client) -> None:
    answer = client.get("/items/999999999")
    assert (answer.status_code, answer.json()) == (404, {"error": "there is no item 999999999"})
    assert client.get(f"/items/{2**63 - 257}").status_code == 404
    assert client.put("/items/999999999", json={"name": "x"}).status_code == 404


@pytest.mark.parametrize("text", ["0", "-1", "+1", "1.0", "abc", "٣", "%00", str(2**63 - 256), "1" * 5000])
def test_bad_id(client: httpx.Client, text: str) -> None:
    answer = client.get(f"/items/{text}")
    assert answer.status_code == 400
    assert "whole number from 1" in answer.json()["error"]


def test_bad_source(client: httpx.Client) -> None:
    answer = client.get("/items/1?source=cache")
    assert (answer.status_code, answer.json()) == (400, {"error": "source must be replica or primary"})


def test_source_names_the_database_and_passes_the_cache(client: httpx.Client, item_id: int) -> None:
    for source in ("primary", "replica", "primary"):
        answer = client.get(f"/items/{item_id}", params={"source": source})
        assert (answer.headers["X-Database"], answer.headers["X-Cache"]) == (source, "bypass")
    assert client.get(f"/items/{item_id}").headers["X-Cache"] == "miss"


def test_writer_reads_its_own_write(service: Service, services: Services) -> None:
    with service.client() as writer, service.client() as other:
        with services.replication_paused():
            created = writer.post("/items", json={"name": "new", "price_cents": 5})
            assert created.status_code == 201
            location = created.headers["Location"]
            assert location == f"/items/{created.json()['id']}"

            own = writer.get(location)
            assert (own.status_code, own.headers["X-Cache"], own.headers["X-Database"]) == (200, "bypass", "primary")
            assert own.json()["main_item"]["name"] == "new"
            assert other.get(location).status_code == 404

        wait_for(lambda: other.get(location, params={"source": "replica"}).is_success, "the replica to show the item")
        assert other.get(location, params={"source": "replica"}).headers["X-Database"] == "replica"
        assert [other.get(location).headers["X-Cache"] for _ in range(2)] == ["miss", "hit"]


def test_cookie_of_a_writer_ends_by_itself(client: httpx.Client) -> None:
    cookie = client.post("/items", json={"name": "new"}).headers["Set-Cookie"]
    assert re.fullmatch(r"wrote=\d+; HttpOnly; Max-Age=10; Path=/; SameSite=lax", cookie)


def test_a_change_is_seen_by_all_though_the_replica_lags(service: Service, services: Services, item_id: int) -> None:
    paths = [f"/items/{item_id}", f"/items/{item_id - 1}"]
    with service.client() as writer, service.client() as other:
        for path in paths:
            assert [other.get(path).headers["X-Cache"] for _ in range(2)] == ["miss", "hit"]
        with services.replication_paused():
            values = {"name": "changed", "description": "d", "price_cents": 7}
            changed = writer.put(paths[0], json=values)
            assert (changed.status_code, changed.json() | values) == (200, changed.json())
            for reader in (writer, other):
                assert reader.get(paths[0]).json()["main_item"]["name"] == "changed"
                assert reader.get(paths[1]).json()["related_item"]["name"] == "changed"
                assert reader.get(paths[0]).headers["X-Cache"] == "bypass"


def test_a_slow_reader_of_the_old_row_does_not_fill_the_cache(
    service: Service, external: External, item_id: int
) -> None:
    with service.client() as writer, service.client() as reader, ThreadPoolExecutor() as executor:
        external.latency = 1
        slow = executor.submit(reader.get, f"/items/{item_id}")
        wait_for(lambda: external.in_flight == 2, "the reader to wait for the external API")
        time.sleep(0.3)  # by now it has read the old row
        assert writer.put(f"/items/{item_id}", json={"name": "changed"}).is_success
        assert slow.result().json()["main_item"]["name"] == f"Item {item_id}"
        external.latency = 0
        assert reader.get(f"/items/{item_id}").json()["main_item"]["name"] == "changed"


def test_last_item_has_a_related_item_once_the_next_is_made(service: Service, services: Services) -> None:
    with service.client() as writer, service.client() as other:
        last = writer.post("/items", json={"name": "last"}).json()["id"]
        services.wait_for_replay()
        assert other.get(f"/items/{last}").json()["related_item"] is None
        assert other.get(f"/items/{last}").headers["X-Cache"] == "hit"
        assert writer.post("/items", json={"name": "next"}).json()["id"] == last + 1
        assert other.get(f"/items/{last}").json()["related_item"]["name"] == "next"


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b'{"name": "\\ud800"}', "JSON"),
        (b"[]", "object"),
        (b'{"name": "x", "id": 1}', "object"),
        (b"{}", "name"),
        (b'{"name": ""}', "name"),
        (b'{"name": "a\\u0000b"}', "name"),
        (b'{"name": 1}', "name"),
        (b'{"name": "x", "description": null}', "description"),
        (b'{"name": "x", "price_cents": -1}', "price_cents"),
        (b'{"name": "x", "price_cents": true}', "price_cents"),
        (b'{"name": "x", "price_cents": 2147483648}', "price_cents"),
    ],
)
def test_bad_body(client: httpx.Client, body: bytes, word: str) -> None:
    answer = client.post("/items", content=body)
    assert answer.status_code == 400
    assert word in answer.json()["error"]


def test_large_body(client: httpx.Client) -> None:
    for content in (b"x" * 65 * 1024, iter([b"x" * 40_000] * 2)):
        assert client.post("/items", content=content).status_code == 413
