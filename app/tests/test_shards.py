"""Which cluster an item is on, how it is found there, and how a shard moves while it is read and written."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest
from conftest import APP, Serve, Service, Services, alembic, wait_for
from hypothesis import given
from hypothesis import strategies as st

from items_service import move_shard
from items_service.shards import SHARDS, NoOwner, NoShardKey, ShardMap, check_map, parse_shards, shard_of, shard_of_all

ids = st.integers(1, 2**63 - 1)
shard_sets = st.frozensets(st.integers(0, SHARDS - 1))


@given(st.one_of(ids, st.text(min_size=1)))
def test_a_key_always_has_the_same_shard(key: int | str) -> None:
    assert shard_of(key) == shard_of(key) in range(SHARDS)


@given(st.integers(1, 2**45), st.integers(0, SHARDS - 1))
def test_an_id_carries_its_shard_and_fits_a_double(number: int, shard: int) -> None:
    item_id = number * SHARDS + shard
    assert shard_of(item_id) == shard == shard_of(item_id + SHARDS)
    assert int(float(item_id)) == item_id or item_id >= 2**53


@pytest.mark.parametrize("key", [None, "", 0, -1, True, 1.0, b"x", (), object()])
def test_without_a_key_there_is_no_way(key: object) -> None:
    with pytest.raises(NoShardKey):
        shard_of(key)


@given(st.lists(ids, max_size=5))
def test_ids_of_several_shards_are_no_key(several: list[int]) -> None:
    shards = {one % SHARDS for one in several}
    if len(shards) == 1:
        assert shard_of_all(several) in shards
    else:
        with pytest.raises(NoShardKey):
            shard_of_all(several)


def test_names_spread_evenly() -> None:
    counts = Counter(shard_of(f"item {number}") for number in range(256_00))
    assert len(counts) == SHARDS and max(counts.values()) < 160


@given(shard_sets)
def test_a_list_of_shards_says_them(shards: frozenset[int]) -> None:
    assert parse_shards(",".join(map(str, sorted(shards)))) == shards


@pytest.mark.parametrize("text", ["256", "5-3", "1,1", "0-9,9-12", "a", "1-", "-1", "1;2", "0--1", ",", "1,"])
def test_a_list_of_shards_that_is_none(text: str) -> None:
    with pytest.raises(ValueError):
        parse_shards(text)


@given(st.lists(st.sampled_from(["one", "two", "three"]), min_size=SHARDS, max_size=SHARDS), st.data())
def test_a_map_has_each_shard_once(owners: list[str], data: st.DataObject) -> None:
    shards = {name: frozenset(n for n in range(SHARDS) if owners[n] == name) for name in ("one", "two", "three")}
    check_map(shards)
    lacks = data.draw(st.integers(0, SHARDS - 1))
    with pytest.raises(ValueError, match=f"first of them is {lacks}"):
        check_map({name: numbers - {lacks} for name, numbers in shards.items()})
    twice = shards | {"four": frozenset({lacks})}
    with pytest.raises(ValueError, match=f"shard {lacks} is on {owners[lacks]} and on four"):
        check_map(twice)


clusters = st.sampled_from(["one", "two", "three"])


@given(st.lists(st.tuples(clusters, clusters), min_size=1, max_size=20), st.data())
def test_the_map_finds_who_got_a_shard_last_however_old_the_others_words_are(
    moves: list[tuple[str, str]], data: st.DataObject
) -> None:
    """Clusters answer at any time; each one's word may be from before some moves."""
    history = [("one", 1)]
    for number, (_source, target) in enumerate(moves):
        history.append((target, 2 * number + 3))
    owner, version = history[-1]
    seen = ShardMap()
    for name in data.draw(st.permutations(["one", "two", "three"])):
        as_of = len(history) if name == owner else data.draw(st.integers(0, len(history) - 1))
        current = history[:as_of][-1] if as_of else None
        claims = {7: current[1]} if current and current[0] == name else {}
        seen.see(name, claims)
    assert seen.cluster_of(7) == owner


def test_two_with_equal_right_and_nobody() -> None:
    seen = ShardMap()
    with pytest.raises(NoOwner, match="no cluster"):
        seen.cluster_of(3)
    seen.see("one", {3: 1})
    seen.see("two", {3: 1})
    with pytest.raises(NoOwner, match="one and on two"):
        seen.cluster_of(3)


class Sharded:
    """Two clusters, as two databases of one server; each with a way of its own to be cut off."""

    def __init__(self, services: Services, environment: dict[str, str]) -> None:
        self.services = services
        self.environment = {name: value for name, value in environment.items() if not name.startswith("DATABASE_")}
        self.clusters = {
            name: {"write": services.database_url(port, name=name), "read": services.database_url(port, name=name)}
            for name, port in (("one", "7101"), ("two", "7102"))
        }
        self.socket = {"one": services.sockets / ".s.PGSQL.7101", "two": services.sockets / ".s.PGSQL.7102"}
        for path in self.socket.values():
            path.symlink_to(services.sockets / ".s.PGSQL.5432")

    def settings(self, one: str = "0-127", two: str = "128-255") -> dict[str, str]:
        shards = {"one": one, "two": two}
        return {
            "DATABASE_WRITE_URL": "",
            "DATABASE_READ_URL": "",
            "DATABASE_CLUSTERS": json.dumps({name: self.clusters[name] | {"shards": shards[name]} for name in shards}),
        }

    def database(self, name: str) -> psycopg.Connection:
        return self.services.connect(name=name)

    def migrate(self, **shards: str) -> subprocess.CompletedProcess[str]:
        return self._run("alembic", "upgrade", "head", **shards)

    def move(self, which: int | str, **shards: str) -> subprocess.CompletedProcess[str]:
        return self._run("items_service.move_shard", str(which), **shards)

    def start_move(self, shard: int, **shards: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "items_service.move_shard", str(shard)]
        return subprocess.Popen(words, cwd=APP, env=self.environment | self.settings(**shards))

    def _run(self, module: str, *arguments: str, **shards: str) -> subprocess.CompletedProcess[str]:
        environment = self.environment | self.settings(**shards)
        words = [sys.executable, "-m", module, *arguments]
        return subprocess.run(words, cwd=APP, env=environment, capture_output=True, text=True, timeout=60)

    @contextmanager
    def cut_off(self, name: str) -> Iterator[None]:
        """Nobody reaches the cluster; the connections there are end."""
        self.socket[name].unlink()
        with self.services.connect() as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND usename = 'app'", [name]
            )
        try:
            yield
        finally:
            self.socket[name].symlink_to(self.services.sockets / ".s.PGSQL.5432")

    def ids(self, name: str, shard: int) -> set[int]:
        with self.database(name) as database:
            return {row[0] for row in database.execute("SELECT id FROM items WHERE id & 255 = %s", [shard])}

    def owners(self, shard: int) -> list[str]:
        owners = []
        for name in self.clusters:
            with self.database(name) as database:
                if database.execute("SELECT owned FROM shards WHERE id = %s", [shard]).fetchone() == (True,):
                    owners.append(name)
        return owners


@pytest.fixture
def sharded(services: Services, environment: dict[str, str]) -> Iterator[Sharded]:
    with services.connect() as admin:
        for name in ("one", "two"):
            admin.execute(f"CREATE DATABASE {name} OWNER app")
        made = Sharded(services, environment)
        try:
            done = made.migrate()
            assert done.returncode == 0, done.stderr
            yield made
        finally:
            for path in made.socket.values():
                path.unlink(missing_ok=True)
            for name in ("one", "two"):
                admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sharded_service(sharded: Sharded, serve: Serve) -> Service:
    service = serve(**sharded.settings())
    wait_for(lambda: service.ready() == {"status": "ok"}, "the service to be ready")
    return service


def post(client: httpx.Client, name: str) -> int:
    answer = client.post("/items", json={"name": name})
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


def name_of(shard: int) -> str:
    return next(name for number in range(100_000) if shard_of(name := f"name {number}") == shard)


def test_an_item_is_on_the_cluster_of_its_names_shard(sharded: Sharded, sharded_service: Service) -> None:
    with sharded_service.client() as client:
        for name in (f"item {number}" for number in range(40)):
            item_id = post(client, name)
            assert item_id % SHARDS == shard_of(name) and item_id < 2**53
            here, there = ("one", "two") if shard_of(name) < 128 else ("two", "one")
            assert item_id in sharded.ids(here, shard_of(name)) and not sharded.ids(there, shard_of(name))
            assert client.get(f"/items/{item_id}").json()["main_item"]["name"] == name
            renamed = client.put(f"/items/{item_id}", json={"name": "renamed"})
            assert renamed.status_code == 200 and renamed.json()["id"] == item_id
            assert client.get(f"/items/{item_id}").json()["main_item"]["name"] == "renamed"
        assert client.put(f"/items/{2**40}", json={"name": "x"}).status_code == 404


def test_the_related_item_is_the_next_of_the_shard(sharded_service: Service) -> None:
    with sharded_service.client() as client:
        assert client.get("/items/5").json()["related_item"]["id"] == 5 + SHARDS
        first, second = post(client, name_of(9)), post(client, name_of(9))
        assert second == first + SHARDS
        assert client.get(f"/items/{first}").json()["related_item"]["id"] == second


def test_a_written_item_is_new_in_the_answer_that_has_it_as_related(sharded_service: Service) -> None:
    with sharded_service.client() as reader, sharded_service.client() as writer:
        wait_for(lambda: reader.get("/items/7").headers["X-Cache"] == "hit", "an answer in memory")
        assert writer.put(f"/items/{7 + SHARDS}", json={"name": "new"}).is_success
        assert reader.get("/items/7").json()["related_item"]["name"] == "new"


def test_a_cluster_away_takes_its_own_shards_alone(sharded: Sharded, sharded_service: Service) -> None:
    with sharded_service.client() as client:
        everything = client.get("/items?limit=100&after=900").json()
        assert [item["id"] for item in everything["items"]] == list(range(901, 1001))
        assert (everything["partial"], everything["missing"]) == (False, [])
        with sharded.cut_off("two"):
            assert client.put("/items/1", json={"name": "x"}).status_code == 200  # shard 1
            answer = client.put("/items/200", json={"name": "x"})  # shard 200
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            some = client.get("/items?limit=100").json()
            assert (some["partial"], some["missing"]) == (True, ["two"])
            assert [item["id"] for item in some["items"]] == [n for n in range(1, 256) if n % SHARDS < 128][:100]
            lost = ["database_write two", "database_read two"]
            wait_for(lambda: sharded_service.ready() == {"status": "degraded", "lost": lost}, "the report")
            with sharded.cut_off("one"):
                assert client.get("/items").status_code == 503
        wait_for(lambda: client.put("/items/200", json={"name": "y"}).is_success, "the cluster to come back")
        assert client.get("/items").json()["partial"] is False


def test_a_service_that_starts_without_one_of_them(sharded: Sharded, serve: Serve) -> None:
    with sharded.cut_off("two"):
        service = serve(**sharded.settings())
        with service.client() as client:
            assert client.get("/items/1").status_code == 200
            began = time.monotonic()
            assert client.get("/items/200").status_code == 503
            assert time.monotonic() - began < 3
    with service.client() as client:
        wait_for(lambda: client.get("/items/200").is_success, "the cluster to be found")


class Writers:
    """Write and read items of one shard, without a pause, until told to stop. None of it may fail or be forgotten."""

    def __init__(self, service: Service, shard: int) -> None:
        self._service = service
        self._shard = shard
        self._stop = threading.Event()
        self.failed: list[str] = []
        self.written: dict[int, str] = {}
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(4)]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _work(self, worker: int) -> None:
        name = name_of(self._shard)
        with self._service.client() as client:
            number = 0
            while not self._stop.is_set():
                number += 1
                try:
                    item_id = post(client, name)
                    changed = client.put(f"/items/{item_id}", json={"name": f"{worker} {number}"})
                    assert changed.status_code == 200, changed.text
                    self.written[item_id] = f"{worker} {number}"
                    read = client.get(f"/items/{item_id}")
                    assert read.status_code == 200, read.text
                    assert read.json()["main_item"]["name"] == f"{worker} {number}", read.text
                    listed = client.get(f"/items?after={item_id - 1}&limit=1").json()
                    assert not listed["partial"]
                except (AssertionError, httpx.HTTPError) as error:
                    self.failed.append(repr(error))

    def check(self, sharded: Sharded, cluster: str) -> None:
        assert not self.failed, self.failed[:5]
        assert len(self.written) > 20
        with sharded.database(cluster) as database:
            there: dict[int, str] = dict(
                database.execute("SELECT id, name FROM items WHERE id & 255 = %s", [self._shard]).fetchall()
            )
        assert self.written.items() <= there.items()


MAP = {"one": "0-4,6-127", "two": "5,128-255"}


def test_a_shard_moves_while_it_is_read_and_written(sharded: Sharded, sharded_service: Service) -> None:
    with Writers(sharded_service, 5) as writers:
        wait_for(lambda: len(writers.written) > 10, "some writes")
        done = sharded.move(5, **MAP)
        assert done.returncode == 0, done.stderr
        before = len(writers.written)
        wait_for(lambda: len(writers.written) > before + 10, "some writes after it")
    moved = json.loads(done.stdout)
    assert (moved["shard"], moved["from"], moved["to"]) == (5, "one", "two") and moved["rows"] > 4
    writers.check(sharded, "two")
    assert sharded.owners(5) == ["two"] and not sharded.ids("one", 5)
    again = json.loads(sharded.move(5, **MAP).stdout)
    assert (again["from"], again["to"], again["rows"], again["pause_ms"]) == ("two", "two", 0, 0)
    back = json.loads(sharded.move(5).stdout)
    assert (back["from"], back["to"]) == ("two", "one") and sharded.owners(5) == ["one"]


STALLS = {  # what holds a move up, on the cluster that it goes to
    "before it copies": "LOCK TABLE items",
    "while it copies": "INSERT INTO items (id, name, description, price_cents) VALUES (5 + 256, '', '', 0)",
    "before writers wait": "LOCK TABLE items",
    "between two owners": "SELECT 1 FROM shards WHERE id = 5 FOR UPDATE",
}


@pytest.mark.parametrize("stall", STALLS)
def test_a_move_that_is_killed_is_run_again(sharded: Sharded, sharded_service: Service, stall: str) -> None:
    waits = "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND usename = 'app' AND wait_event_type = 'Lock'"
    with (
        Writers(sharded_service, 5) as writers,
        sharded.database("one") as one,
        sharded.database("two") as two,
        sharded.database("two") as watcher,
    ):
        wait_for(lambda: len(writers.written) > 5, "some writes")
        two.execute("SET items.moves_shard = 'on'")
        two.execute("DELETE FROM items WHERE id = 5 + 256")
        two.execute("BEGIN")
        two.execute(STALLS[stall])
        with sharded.start_move(5, **MAP) as process:
            wait_for(lambda: watcher.execute(waits, ["two"]).fetchone(), "the move to be held up")
            if stall == "before writers wait":
                one.execute("SELECT pg_advisory_lock_shared(%s, 5)", [move_shard.LOCKS])
                two.execute("ROLLBACK")
                wait_for(lambda: watcher.execute(waits, ["one"]).fetchone(), "the move to wait for a writer")
            process.kill()
        one.execute("SELECT pg_advisory_unlock_all()")
        two.execute("ROLLBACK")
        before = len(writers.written)
        done = sharded.move(5, **MAP)
        assert done.returncode == 0, done.stderr
        wait_for(lambda: len(writers.written) > before + 5, "some writes after it")
    writers.check(sharded, "two")
    assert sharded.owners(5) == ["two"]


def test_between_two_owners_it_waits_and_the_next_run_ends_it(sharded: Sharded, sharded_service: Service) -> None:
    for name, version in (("one", 2), ("two", 0)):
        with sharded.database(name) as database:
            database.execute("UPDATE shards SET owned = false, version = %s WHERE id = 5", [version])
    with sharded_service.client() as client:
        assert client.put("/items/5", json={"name": "x"}).status_code == 503
        assert json.loads(sharded.move(5, **MAP).stdout)["from"] == "one"
        assert client.put("/items/5", json={"name": "x"}).status_code == 200
    assert sharded.owners(5) == ["two"]


def test_what_cannot_be_moved_is_refused(sharded: Sharded) -> None:
    with sharded.database("two") as database:
        database.execute("UPDATE shards SET owned = true, version = 1 WHERE id = 5")
        refused = sharded.move(5, **MAP)
        assert refused.returncode == 1 and "shard 5 is on one and on two" in refused.stderr
        database.execute("UPDATE shards SET owned = false, version = 0 WHERE id = 5")
        database.execute("ALTER TABLE items ADD COLUMN more text")
        assert "run the migrations first" in sharded.move(5, **MAP).stderr
    assert sharded.owners(5) == ["one"]
    assert "from 0 to 255" in sharded.move(256).stderr


def test_several_move_one_after_another(sharded: Sharded) -> None:
    done = sharded.move("0-2,127", one="3-126", two="0-2,127-255")
    moved = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["shard"] for row in moved] == [0, 1, 2, 127] and {row["to"] for row in moved} == {"two"}
    with sharded.database("one") as database:
        assert database.execute("SELECT count(*) FROM shards WHERE owned").fetchone() == (124,)


def test_a_shard_of_two_clusters_is_nobodys(sharded: Sharded, serve: Serve) -> None:
    with sharded.database("two") as database:
        database.execute("UPDATE shards SET owned = true, version = 1 WHERE id = 5")
    service = serve(**sharded.settings())
    with service.client() as client:
        # past the cache, which has what was answered while one of them was not known yet
        wait_for(lambda: client.get("/items/5?source=primary").status_code == 503, "both clusters are known")
        assert client.get("/items/6").status_code == 200
    assert "shard 5 is on one and on two" in service.log.read_text()


def test_one_cluster_with_data_gets_a_second(sharded: Sharded, services: Services, environment: dict[str, str]) -> None:
    """What is on the first stays there, until it is moved."""
    with services.connect() as admin:
        for name in ("one", "two"):
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
            admin.execute(f"CREATE DATABASE {name} OWNER app")
    before = {name: value for name, value in environment.items() if not name.startswith("DATABASE_")}
    alembic(before | {"DATABASE_WRITE_URL": sharded.clusters["one"]["write"]}, "upgrade", "head")
    with sharded.database("one") as database:
        database.execute("INSERT INTO items (name, description, price_cents) VALUES ('more', '', 1)")  # id 1001
    refused = sharded.migrate()
    assert (
        refused.returncode != 0 and "but one holds items of it that two has not, such as item 1001" in refused.stderr
    ), refused.stderr
    done = sharded.migrate(one="0-255", two="")
    assert done.returncode == 0, done.stderr
    assert sharded.migrate().returncode == 0  # another map moves nothing
    assert sharded.owners(233) == ["one"] and 1001 in sharded.ids("one", 233) and not sharded.ids("two", 233)
    assert json.loads(sharded.move(233).stdout)["rows"] == 4
    assert sharded.owners(233) == ["two"] and 1001 in sharded.ids("two", 233)


BAD = [
    ("[]", "no object"),
    ("{", "expected"),
    ('{"A": {}}', "no name of a cluster"),
    ('{"a": {"write": "w"}}', "must have write, read and shards"),
    ('{"a": {"write": "W", "read": "mysql://x", "shards": "0-255"}}', "DATABASE_CLUSTERS.a.read"),
    ('{"a": {"write": "W", "read": "W", "shards": "0-254"}}', "the first of them is 255"),
    (
        '{"a": {"write": "W", "read": "W", "shards": "0-255"}, "b": {"write": "W", "read": "W", "shards": "9"}}',
        "9 is on",
    ),
]


@pytest.mark.parametrize(("text", "word"), BAD)
def test_a_bad_map_stops_the_start(environment: dict[str, str], tmp_path: Path, text: str, word: str) -> None:
    settings = {"DATABASE_WRITE_URL": "", "DATABASE_READ_URL": ""}
    clusters = text.replace('"W"', json.dumps(environment["DATABASE_WRITE_URL"]))
    words = [sys.executable, "-c", "import items_service.main"]
    started = subprocess.run(
        words,
        cwd=APP,
        env=environment | settings | {"DATABASE_CLUSTERS": clusters},
        capture_output=True,
        text=True,
    )
    assert started.returncode != 0 and "DATABASE_CLUSTERS" in started.stderr and word in started.stderr
