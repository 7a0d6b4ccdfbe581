"""Which server a read goes to, and what a pool before it changes."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
from conftest import Serve, Service, Services, wait_for
from test_failures import assert_unavailable, locked_items


def answered_by(client: httpx.Client, item_id: int, query: str = "?source=replica") -> str:
    answer = client.get(f"/items/{item_id}{query}")
    assert answer.status_code == 200, answer.text
    return answer.headers["X-Database"]


def test_a_writer_reads_from_the_replica_once_that_has_its_write(
    service: Service, services: Services, item_id: int
) -> None:
    with service.client() as writer:
        with services.replication_paused():
            for number in range(3):
                assert writer.put(f"/items/{item_id}", json={"name": f"{number}"}).is_success
                answer = writer.get(f"/items/{item_id}")
                assert answer.json()["main_item"]["name"] == f"{number}"
                assert (answer.headers["X-Cache"], answer.headers["X-Database"]) == ("bypass", "primary")
        services.wait_for_replay()
        answer = writer.get(f"/items/{item_id}")
        assert answer.json()["main_item"]["name"] == "2"
        assert (answer.headers["X-Cache"], answer.headers["X-Database"]) == ("bypass", "replica")


def test_an_older_transaction_that_runs_on_leaves_it_to_the_primary(
    service: Service, services: Services, item_id: int
) -> None:
    with service.client() as writer, services.connect() as older:
        older.execute("BEGIN")
        older.execute("SELECT pg_current_xact_id()")
        assert writer.put(f"/items/{item_id}", json={"name": "x"}).is_success
        services.wait_for_replay()
        assert answered_by(writer, item_id, "") == "primary"
        older.execute("ROLLBACK")
        assert writer.put(f"/items/{item_id}", json={"name": "y"}).is_success
        services.wait_for_replay()
        assert answered_by(writer, item_id, "") == "replica"


def test_a_forged_cookie_is_of_no_use(client: httpx.Client, item_id: int) -> None:
    for cookie in ("wrote=", "wrote=-1", "wrote=1e9", "wrote=" + "9" * 21, "wrote=\u00b2"):
        answers = [client.get(f"/items/{item_id}", headers=[(b"Cookie", cookie.encode("latin-1"))]) for _ in range(2)]
        assert answers[1].headers["X-Cache"] == "hit"
    far = client.get(f"/items/{item_id}", headers={"Cookie": "wrote=" + "9" * 20})
    assert (far.status_code, far.headers["X-Database"]) == (200, "primary")


def test_a_replica_behind_is_left_alone_and_an_idle_primary_is_not_ahead(
    serve: Serve, services: Services, item_id: int
) -> None:
    with serve(DATABASE_MAX_LAG="1").client() as client:
        wait_for(lambda: answered_by(client, item_id) == "replica", "the replica to be asked")
        with services.replication_paused():
            assert client.put(f"/items/{item_id + 5}", json={"name": "x"}).is_success
            wait_for(lambda: answered_by(client, item_id) == "primary", "the replica to be behind")
            assert {answered_by(client, item_id) for _ in range(20)} == {"primary"}
        wait_for(lambda: answered_by(client, item_id) == "replica", "the replica to be asked again")
        for _ in range(10):  # nothing is written for longer than the limit
            time.sleep(0.5)
            assert answered_by(client, item_id) == "replica"


def test_an_old_answer_is_better_than_none(serve: Serve, services: Services, item_id: int) -> None:
    primary = services.sockets / ".s.PGSQL.7000"
    primary.symlink_to(services.sockets / ".s.PGSQL.5432")
    address = services.database_url("7000", query="&application_name=cut_off")
    service = serve(DATABASE_WRITE_URL=address, DATABASE_READ_URL=services.database_url("5433"), DATABASE_MAX_LAG="1")
    with service.client() as client, services.replication_paused(), services.connect() as admin:
        assert client.put(f"/items/{item_id + 5}", json={"name": "x"}).is_success
        wait_for(lambda: answered_by(client, item_id) == "primary", "the replica to be behind")
        primary.unlink()
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cut_off'")
        wait_for(lambda: service.ready() == {"status": "degraded", "lost": ["database_write"]}, "the report")
        assert answered_by(client, item_id) == "replica"
        assert_unavailable(client.get(f"/items/{item_id + 5}"))  # but who wrote is told the truth or nothing


def test_a_frozen_replica_is_left_alone(serve: Serve, services: Services, item_id: int) -> None:
    with services.black_hole(".s.PGSQL.9998"):
        with serve(DATABASE_READ_URL=services.database_url("9998")).client() as client:
            answers = [client.get(f"/items/{item_id}?source=replica") for _ in range(5)]
            assert {answer.headers["X-Database"] for answer in answers} == {"primary"}
            assert sorted(answer.elapsed.total_seconds() for answer in answers)[2] < 1, "one waited for the others"


def pooled(services: Services) -> dict[str, str]:
    """Both ways through the pool of three connections, which takes no startup options."""
    address = services.database_url("6432", query="&options=&application_name=pooled")
    return {"DATABASE_WRITE_URL": address, "DATABASE_READ_URL": address}


def test_prepared_statements_through_a_pool(serve: Serve, services: Services, item_id: int) -> None:
    service = serve(DATABASE_POOL_SIZE="20", **pooled(services))

    def ask(number: int) -> int:
        if number % 3:
            return httpx.put(f"{service.url}/items/{item_id}", json={"name": f"{number}"}, timeout=15).status_code
        return httpx.get(f"{service.url}/items/{item_id}?source=primary", timeout=15).status_code

    with ThreadPoolExecutor(20) as executor:
        assert list(executor.map(ask, range(900))) == [200] * 900
    backends = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pooled'"
    pool = psycopg.connect(host=str(services.sockets), port=6432, user="app", password=services.password, dbname="app")
    with services.connect() as admin, pool:
        assert 1 <= (admin.execute(backends).fetchone() or [0])[0] <= 3
        prepared = [row[0] for row in pool.execute("SELECT statement FROM pg_prepared_statements").fetchall()]
    assert any(statement.startswith("UPDATE items") for statement in prepared), prepared


def test_an_exhausted_pool_before_the_server(serve: Serve, services: Services, item_id: int) -> None:
    service = serve(DATABASE_POOL_SIZE="20", **pooled(services))

    def put(_: int) -> httpx.Response:
        return httpx.put(f"{service.url}/items/{item_id}", json={"name": "x"}, timeout=15)

    with locked_items(services) as release, ThreadPoolExecutor(6) as executor:
        for answer in executor.map(put, range(6)):
            assert_unavailable(answer)
        wait_for(lambda: not services.somebody_waits(), "nothing to wait any more for a client that has its answer")
        release()
    assert put(0).status_code == 200
