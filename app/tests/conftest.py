"""The real services in a container without a network, the service in its own process, and an external API."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import psycopg
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

APP = Path(__file__).parents[1]
IMAGE = os.environ.get("TEST_SERVICES_IMAGE", "localhost/c50k-lab/debian13-golden")


def wait_for(condition: Callable[[], object], what: str, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.05)


class Engine(NamedTuple):
    """A cache, for the tests that hold for each: its address, and how to begin and end it in the container."""

    url: str
    start: str
    kill: str


class Services:
    """PostgreSQL, Redis and Memcached, by their sockets."""

    def __init__(self, sockets: Path, container: str) -> None:
        self.sockets = sockets
        self.password = (sockets / "password").read_text()
        self._container = container

    def shell(self, command: str) -> None:
        subprocess.run(["podman", "exec", self._container, "sh", "-c", command], check=True, stdin=subprocess.DEVNULL)

    def connect(self, port: int = 5432, name: str = "app") -> psycopg.Connection:
        """As the superuser, to the primary (5432) or the replica (5433)."""
        return psycopg.connect(
            host=str(self.sockets), port=port, user="postgres", password=self.password, dbname=name, autocommit=True
        )

    def read_only(self) -> bool:
        """Whether the primary takes no writes from who connects now."""
        with self.connect() as connection:
            return connection.execute("SHOW transaction_read_only").fetchone() == ("on",)

    def somebody_waits(self) -> bool:
        """Whether a statement waits for a lock on the items."""
        waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'items'::regclass"
        with self.connect() as connection:
            return connection.execute(waiting).fetchone() is not None

    def database_url(self, ports: str = "5432", name: str = "app", query: str = "", user: str = "app") -> str:
        """Of the primary (5432), the replica (5433) or the pool before the primary (6432)."""
        hosts = ",".join([str(self.sockets)] * len(ports.split(",")))
        return f"postgresql+psycopg://{user}@/{name}?host={hosts}&port={ports}{query}"

    def cache(self, engine: str) -> Engine:
        kill = f"kill -9 $(cat /data/{engine}.pid)"
        if engine == "redis":
            return Engine(f"unix://app@{self.sockets}/redis.sock", "redis-server /data/redis.conf", kill)
        start = "memcached -d -u memcache -s /run/services/memcached.sock -a 777 -P /data/memcached.pid"
        return Engine(f"memcached://{self.sockets}/memcached.sock", start, kill)

    @contextmanager
    def replication_paused(self) -> Iterator[None]:
        with self.connect(5433) as replica:
            replica.execute("SELECT pg_wal_replay_pause()")
            try:
                yield
            finally:
                replica.execute("SELECT pg_wal_replay_resume()")

    def wait_for_replay(self) -> None:
        """Until the replica shows all that the primary has written so far."""
        with self.connect() as primary, self.connect(5433) as replica:
            (lsn,) = primary.execute("SELECT pg_current_wal_lsn()").fetchone() or (None,)
            query = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
            wait_for(lambda: (replica.execute(query, [lsn]).fetchone() or [False])[0], "the replica to catch up")

    @contextmanager
    def black_hole(self, name: str) -> Iterator[Path]:
        """A socket that takes connections and never answers."""
        path = self.sockets / name
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(100)
            try:
                yield path
            finally:
                path.unlink()


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    sockets = Path(tempfile.mkdtemp(prefix="items-"))  # a socket's path must be short
    sockets.chmod(0o777)
    (sockets / "password").write_text(secrets.token_hex(16))
    name = sockets.name
    shutil.copy(APP / "tests/services.sh", sockets)
    try:
        subprocess.run(
            ["podman", "run", "--rm", "--detach", "--name", name, "--network", "none", "--tmpfs", "/data:mode=755"]
            + ["--volume", f"{sockets}:/run/services", "--entrypoint", "bash", IMAGE, "/run/services/services.sh"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_for((sockets / "ready").exists, f"the services in the container {name}")
        except AssertionError:
            subprocess.run(["podman", "logs", name], check=False)
            raise
        yield Services(sockets, name)
    finally:
        subprocess.run(["podman", "rm", "--force", "--time", "0", name], check=False, stdout=subprocess.DEVNULL)
        shutil.rmtree(sockets)


class External:
    """The external API on loopback: settable latency (seconds), status and body."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.reset()

    def reset(self) -> None:
        self.latency = 0.0
        self.status = 200
        self.body: bytes | None = None
        self.endless = False
        self.calls = self.in_flight = self.most_in_flight = 0
        self.traces: list[str | None] = []

    async def post(self, request: Request) -> Response:
        self.calls += 1
        self.traces.append(request.headers.get("traceparent"))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(self.latency)
        self.in_flight -= 1
        if self.endless:
            return StreamingResponse(itertools.repeat(b" " * 65536), self.status)
        if self.body is not None:
            return Response(self.body, self.status)
        number = request.path_params["id"]
        return JSONResponse({"userId": 1, "id": number, "title": f"post {number}", "body": "text"}, self.status)


@pytest.fixture(scope="session")
def external_server() -> Iterator[External]:
    external = External()
    api = Starlette(routes=[Route("/posts/{id:int}", external.post)])
    server = uvicorn.Server(uvicorn.Config(api, port=external.port, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_for(lambda: server.started, "the external API")
    yield external
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def external(external_server: External) -> External:
    external_server.reset()
    return external_server


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="session")
def environment(services: Services, external_server: External) -> dict[str, str]:
    """The settings of a service on these databases."""
    credentials = services.sockets / "credentials"
    credentials.mkdir()
    for name in ("database_password", "cache_password"):
        (credentials / name).write_text(services.password + "\n")
    environment = {
        "PATH": os.environ["PATH"],
        "CREDENTIALS_DIRECTORY": str(credentials),
        "DATABASE_WRITE_URL": services.database_url("5433,5432", query="&target_session_attrs=read-write"),
        "DATABASE_READ_URL": services.database_url("5432,5433", query="&target_session_attrs=prefer-standby"),
        "CACHE_URL": services.cache("redis").url,
        "UPSTREAM_URL": external_server.url,
        "RELEASE_ID": "test-release",
    }
    alembic(environment, "upgrade", "head")
    services.wait_for_replay()
    return environment


def alembic(environment: dict[str, str], *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "alembic", *arguments], cwd=APP, env=environment, check=True)


class Service:
    def __init__(self, url: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.url = url
        self.process = process
        self.log = log
        self.poller = self.client()

    def client(self) -> httpx.Client:
        """A client of its own: own connections, own cookies."""
        return httpx.Client(base_url=self.url, timeout=15, verify=False)

    def alive(self) -> bool:
        assert self.process.poll() is None, f"the service stopped:\n{self.log.read_text()}"
        try:
            return self.poller.get("/livez").is_success
        except httpx.TransportError:
            return False

    def ready(self) -> dict[str, object]:
        content: dict[str, object] = self.poller.get("/readyz").json()
        return content


@contextmanager
def running(environment: dict[str, str], directory: Path, server: list[str]) -> Iterator[Service]:
    port = free_port()
    log = directory / f"{port}.log"
    command = [sys.executable, "-m", *(part.format(port=port) for part in server), "items_service.main:app"]
    with (
        log.open("wb") as output,
        subprocess.Popen(command, cwd=APP, env=environment, stdout=output, stderr=output) as process,
    ):
        service = Service(f"http://127.0.0.1:{port}", process, log)
        try:
            wait_for(service.alive, "the service")
            yield service
        finally:
            service.poller.close()
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            finally:
                process.kill()


UVICORN = ["uvicorn", "--port", "{port}", "--log-level", "warning"]


@pytest.fixture(scope="session")
def shared_service(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(environment, tmp_path_factory.mktemp("log"), UVICORN) as service:
        wait_for(lambda: service.ready() == {"status": "ok"}, "the service to be ready")
        yield service


@pytest.fixture
def service(shared_service: Service, external: External) -> Service:
    return shared_service


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


@pytest.fixture(params=["redis", "memcached"])
def cache(request: pytest.FixtureRequest, services: Services) -> Engine:
    return services.cache(request.param)


Serve = Callable[..., Service]


@pytest.fixture
def serve(environment: dict[str, str], external: External, tmp_path: Path) -> Iterator[Serve]:
    """Start a service with other settings: serve(NAME="value")."""
    with ExitStack() as stack:

        def start(server: list[str] = UVICORN, **settings: str) -> Service:
            return stack.enter_context(running(environment | settings, tmp_path, server))

        yield start


_ids = itertools.count(10, 10)


@pytest.fixture
def item_id() -> int:
    """An item that no other test reads or writes; nor does one its neighbours."""
    return next(_ids)
