from __future__ import annotations

import asyncio
import concurrent.futures
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest
from conftest import Engine, Serve, Service, Services, wait_for

from items_service.cache import TIMEOUT
from items_service.database import TOTAL_TIMEOUT, WRITE_TIMEOUT, Database
from items_service.settings import Settings

UNAVAILABLE = {"error": "The database is unavailable, try again"}


def assert_unavailable(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()) == (503, UNAVAILABLE)
    assert int(answer.headers["Retry-After"]) > 0


def test_cache_lost_and_found(serve: Serve, services: Services, cache: Engine, item_id: int) -> None:
    service = serve(CACHE_URL=cache.url)
    with service.client() as client:
        assert [client.get(f"/items/{item_id}").headers["X-Cache"] for _ in range(2)] == ["miss", "hit"]
        services.shell(cache.kill)
        try:
            time.sleep(1.1)  # what is hot is given for a second
            for _ in range(2):
                answer = client.get(f"/items/{item_id}")
                assert (answer.status_code, answer.headers["X-Cache"]) == (200, "miss")
            assert client.put(f"/items/{item_id}", json={"name": "x"}).status_code == 200
            degraded = {"status": "degraded", "lost": ["cache"]}
            wait_for(lambda: service.ready() == degraded, "the loss of the cache to be reported")
            assert client.get("/readyz").status_code == 200
        finally:
            services.shell(cache.start)
        wait_for(lambda: service.ready() == {"status": "ok"}, "the cache to be back")
        with service.client() as other:
            wait_for(lambda: other.get(f"/items/{item_id}").headers["X-Cache"] == "hit", "a hit")


@pytest.mark.parametrize("url", ["unix://app@{}", "memcached://{}"])
def test_cache_that_never_answers(serve: Serve, services: Services, url: str, item_id: int) -> None:
    with services.black_hole("frozen.sock") as path:
        service = serve(CACHE_URL=url.format(path))
        with service.client() as client:
            for _ in range(3):
                answer = client.get(f"/items/{item_id}")
                assert (answer.status_code, answer.headers["X-Cache"]) == (200, "miss")
            assert client.post("/items", json={"name": "x"}).status_code == 201


def test_nobody_waits_for_the_request_that_tries_a_frozen_cache(
    serve: Serve, services: Services, cache: Engine, item_id: int
) -> None:
    service = serve(CACHE_URL=cache.url)
    taken: list[float] = []
    with service.client() as client:
        assert client.get(f"/items/{item_id}").headers["X-Cache"] == "miss"
        services.shell(cache.kill.replace("-9", "-STOP"))
        try:
            end = time.monotonic() + 6
            while time.monotonic() < end:
                started = time.monotonic()
                assert client.get(f"/items/{item_id}").status_code == 200
                taken.append(time.monotonic() - started)
        finally:
            services.shell(cache.kill.replace("-9", "-CONT"))
        wait_for(lambda: client.get(f"/items/{item_id}").headers["X-Cache"] == "hit", "a hit")
    slow = [one for one in taken if one > TIMEOUT / 2]
    # one to find out and one to try in each second; with each that waits, a hundred would not have fitted
    assert len(slow) <= 8 and len(taken) > 100, (len(slow), len(taken))


def test_of_several_memcacheds_a_lost_one_is_missed_alone(serve: Serve, services: Services, item_id: int) -> None:
    first = services.cache("memcached")
    services.shell(first.start.replace("memcached.", "second."))
    service = serve(CACHE_URL=f"{first.url},{services.sockets}/second.sock")
    ids = range(item_id - 4, item_id + 5)

    def found() -> dict[int, str]:
        with service.client() as client:
            answers = {one: client.get(f"/items/{one}") for one in ids}
        assert {answer.status_code for answer in answers.values()} == {200}
        return {one: answer.headers["X-Cache"] for one, answer in answers.items()}

    assert set(found().values()) == {"miss"} and set(found().values()) == {"hit"}
    services.shell(first.kill.replace("memcached", "second"))
    time.sleep(1.1)  # what is hot is given for a second
    assert set(found().values()) == {"hit", "miss"}
    kept = next(one for one, how in found().items() if how == "hit")
    with service.client() as writer, service.client() as reader:
        assert writer.put(f"/items/{kept}", json={"name": "another"}).status_code == 200
        assert reader.get(f"/items/{kept}").json()["main_item"]["name"] == "another"


def test_cache_that_refuses_us(serve: Serve, services: Services, item_id: int) -> None:
    with serve(CACHE_URL=f"unix://stranger@{services.sockets}/redis.sock").client() as client:
        for _ in range(2):
            answer = client.get(f"/items/{item_id}")
            assert (answer.status_code, answer.headers["X-Cache"]) == (200, "miss")


@contextmanager
def locked_items(services: Services) -> Iterator[Callable[[], None]]:
    """Nobody reads or writes an item until what this gives is called."""
    with services.connect() as locker:
        locker.execute("BEGIN")
        locker.execute("LOCK TABLE items IN ACCESS EXCLUSIVE MODE")

        def release() -> None:
            locker.execute("ROLLBACK")

        yield release


def test_exhausted_pool(serve: Serve, services: Services, item_id: int) -> None:
    service = serve(DATABASE_POOL_SIZE="1", DATABASE_MAX_OVERFLOW="0", DATABASE_POOL_TIMEOUT="0.2")

    def put(_: int) -> httpx.Response:
        return httpx.put(f"{service.url}/items/{item_id}", json={"name": "x"}, timeout=15)

    with locked_items(services) as release, concurrent.futures.ThreadPoolExecutor(3) as executor:
        first = executor.submit(put, 0)
        wait_for(services.somebody_waits, "the first write to wait in the database")
        for answer in executor.map(put, range(2)):
            assert_unavailable(answer)
        release()
        assert first.result().status_code == 200
    assert put(0).status_code == 200


def test_reads_that_come_together_take_one_connection(serve: Serve, services: Services, item_id: int) -> None:
    service = serve(DATABASE_POOL_SIZE="1", DATABASE_MAX_OVERFLOW="0", DATABASE_POOL_TIMEOUT="0.2")

    def get(_: int) -> httpx.Response:
        return httpx.get(f"{service.url}/items/{item_id}?source=primary", timeout=15)

    with locked_items(services) as release, concurrent.futures.ThreadPoolExecutor(20) as executor:
        answers = [executor.submit(get, number) for number in range(20)]
        wait_for(services.somebody_waits, "a read to wait in the database")
        time.sleep(1)  # longer than any of them would wait for a connection of its own
        release()
        assert {answer.result().status_code for answer in answers} == {200}


def test_read_only_primary_and_recovery(serve: Serve, services: Services) -> None:
    # one plain address: the same server answers pings before and after, only its role changes
    backends = "SELECT pid FROM pg_stat_activity WHERE application_name = 'read_only_test'"
    address = services.database_url(query="&application_name=read_only_test")
    service = serve(DATABASE_WRITE_URL=address, DATABASE_POOL_SIZE="1", DATABASE_MAX_OVERFLOW="0")
    with (
        services.connect() as admin,
        service.client() as client,
        concurrent.futures.ThreadPoolExecutor() as executor,
    ):
        assert client.post("/items", json={"name": "before"}).status_code == 201
        [before] = admin.execute(backends).fetchall()
        admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        try:
            admin.execute("SELECT pg_reload_conf()")
            lost = {"status": "degraded", "lost": ["database_write"]}
            wait_for(lambda: service.ready() == lost, "the loss of the primary to be reported")
            early = executor.submit(client.post, "/items", json={"name": "too early"})
            time.sleep(WRITE_TIMEOUT - TOTAL_TIMEOUT - 0.5)
            late = executor.submit(client.post, "/items", json={"name": "waits longer than a read"})
            assert_unavailable(early.result())
        finally:
            admin.execute("SET default_transaction_read_only = off")
            admin.execute("ALTER SYSTEM RESET default_transaction_read_only")
            admin.execute("SELECT pg_reload_conf()")
        assert late.result().status_code == 201
        # the server takes a moment to end one that was thrown away
        wait_for(lambda: len(admin.execute(backends).fetchall()) == 1, "the pool to be of one connection")
        assert admin.execute(backends).fetchall() != [before], "the connection that was read-only is still in the pool"


def test_a_connection_that_nobody_waits_for_any_longer_is_closed(
    services: Services, environment: dict[str, str]
) -> None:
    settings = Settings.from_environment(environment | {"DATABASE_WRITE_URL": services.database_url()})
    postmaster = "$(head -1 /data/primary/postmaster.pid)"

    def sockets() -> set[str]:
        own = (os.readlink(entry) for entry in os.scandir("/proc/self/fd") if os.path.lexists(entry))
        return {name for name in own if name.startswith("socket:")}

    async def give_up() -> None:
        async with Database(settings) as database:
            before = sockets()
            services.shell(f"kill -STOP {postmaster}")
            try:
                with pytest.raises(TimeoutError) as error:
                    async with asyncio.timeout(0.3):
                        await database.check_write()
                assert sockets() > before
            finally:
                services.shell(f"kill -CONT {postmaster}")
            async with asyncio.timeout(5):
                while sockets() != before:
                    await asyncio.sleep(0.05)
            del error  # until here it holds the frames of all that was half made, as a cycle does

    asyncio.run(give_up())


def test_a_write_waits_for_a_primary(serve: Serve, services: Services) -> None:
    with services.connect() as admin, serve().client() as client, concurrent.futures.ThreadPoolExecutor(1) as executor:
        admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        try:
            admin.execute("SELECT pg_reload_conf()")
            wait_for(services.read_only, "the primary to take no writes")
            written = executor.submit(client.post, "/items", json={"name": "during"})
            time.sleep(1)
            assert not written.done()
        finally:
            admin.execute("SET default_transaction_read_only = off")
            admin.execute("ALTER SYSTEM RESET default_transaction_read_only")
            admin.execute("SELECT pg_reload_conf()")
        assert written.result().status_code == 201


def test_wrong_password(serve: Serve, services: Services, item_id: int) -> None:
    addresses = {f"DATABASE_{kind}_URL": services.database_url(user="stranger") for kind in ("WRITE", "READ")}
    secret = f"ALTER ROLE stranger PASSWORD '{services.password}'"
    with services.connect() as admin:
        admin.execute("CREATE ROLE stranger LOGIN PASSWORD 'another one' IN ROLE app")
        service = serve(**addresses)
        with service.client() as client:
            lost = {"status": "degraded", "lost": ["database_write", "database_read"]}
            wait_for(lambda: service.ready() == lost, "the loss of the database to be reported")
            assert client.get("/readyz").status_code == 200
            assert_unavailable(client.get(f"/items/{item_id}"))
            assert_unavailable(client.put(f"/items/{item_id}", json={"name": "x"}))
            log = service.log.read_text()
            assert 'password authentication failed for user "stranger"' in log
            assert str(services.sockets) in log and services.password not in log
            admin.execute(secret)
            wait_for(lambda: service.ready() == {"status": "ok"}, "the right password to be enough")
            assert client.put(f"/items/{item_id}", json={"name": "x"}).status_code == 200


def test_primary_gone(serve: Serve, services: Services, item_id: int) -> None:
    service = serve(DATABASE_WRITE_URL=services.database_url("1"))
    with service.client() as client:
        assert_unavailable(client.post("/items", json={"name": "x"}))
        assert client.get(f"/items/{item_id}").status_code == 200
        wait_for(lambda: service.ready() == {"status": "degraded", "lost": ["database_write"]}, "the report")
        assert client.get("/livez").status_code == 200
        assert str(services.sockets) in service.log.read_text(), "the log tells which server"


def test_connections_cut_by_the_server_are_replaced(client: httpx.Client, services: Services, item_id: int) -> None:
    assert client.get(f"/items/{item_id}").headers["X-Database"] == "replica"
    assert client.get(f"/items/{item_id}?source=primary").status_code == 200
    for port in (5432, 5433):
        with services.connect(port) as admin:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
    assert client.get(f"/items/{item_id}?source=replica").status_code == 200
    assert client.get(f"/items/{item_id}?source=primary").status_code == 200


def test_starting_until_the_first_checks_are_done(serve: Serve, services: Services) -> None:
    with services.black_hole(".s.PGSQL.9999"):
        service: Service = serve(DATABASE_READ_URL=services.database_url("9999"))
        answer = httpx.get(f"{service.url}/readyz")
        assert (answer.status_code, answer.json()) == (503, {"status": "starting"})
        wait_for(lambda: service.ready() == {"status": "degraded", "lost": ["database_read"]}, "the first checks")
        assert httpx.head(f"{service.url}/readyz").status_code == 200
