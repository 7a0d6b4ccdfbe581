# SPDX-License-Identifier: GPL-3.0-or-later
"""The metadata service over loopback: hosts are told apart by the address they ask from, as on the lab's routers."""

from __future__ import annotations

import asyncio
import base64
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
import pytest
from lab_server import KEY, wait_for
from linode_metadata import MetadataClient

from lab.metadata import Metadata, Tokens, as_text
from lab.models import Instance, Interface
from lab.settings import Limit
from lab.store import Store

USER_DATA = "#cloud-config\nruncmd: [[echo, hunter2]]\n"
BLUE, GREEN, STRANGER = "127.0.0.2", "127.0.0.3", "127.0.0.9"
DOCUMENTS = ("instance", "network", "ssh-keys", "user-data")


def linode(number: int, address: str | None, vpc: dict[int, str] | None = None, **options: Any) -> Instance:
    """A record with a public address, or with addresses by VPC."""
    attached = [Interface(100, "public", addresses=[address])] if address else []
    attached += [Interface(vpc_id, "vpc", addresses=[own], vpc_id=vpc_id) for vpc_id, own in (vpc or {}).items()]
    values = {
        **{"label": f"demo-{number}", "region": "de-fra-2", "type": "g6-nanode-1", "image": "linode/debian13"},
        **{"interface_generation": "linode", "host_uuid": f"{number:032x}", "booted": True},
        **{"linode_interfaces": attached, "ipv4": [address] if address else []},
        **options,
    }
    return Instance(number, **values)


class Service:
    """The service on the router of the public addresses (None) and on those of two VPCs, in a thread of its own."""

    def __init__(self, limits: Mapping[str, Limit]) -> None:
        self.store = Store(":memory:", hosts=False)
        self.store.save(
            linode(1, BLUE, tags=["demo", "app"], authorized_keys=[KEY], user_data=_base64(USER_DATA)),
            linode(2, GREEN, {5: BLUE}),
            linode(3, None, {6: BLUE}),
        )
        self._limits = limits
        self._sockets = {router: socket.create_server(("127.0.0.1", 0)) for router in (None, 5, 6)}
        self.ports = {router: bound.getsockname()[1] for router, bound in self._sockets.items()}
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        wait_for(lambda: hasattr(self, "_ended"))

    async def _serve(self) -> None:
        self.metadata = Metadata(self.store, self._limits)
        for router, bound in self._sockets.items():
            self.metadata.serve(router, bound)
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        await self._ended.wait()
        await self.metadata.end(*self.metadata.served)

    def end(self, router: int | None) -> None:
        asyncio.run_coroutine_threadsafe(self.metadata.end(router), self._loop).result(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)
        assert not self._thread.is_alive()
        self.store.close()

    def http(self, address: str, router: int | None = None) -> httpx.Client:
        transport = httpx.HTTPTransport(local_address=address)
        return httpx.Client(base_url=f"http://127.0.0.1:{self.ports[router]}/v1", transport=transport)

    def token(self, client: httpx.Client, seconds: int = 60) -> dict[str, str]:
        reply = client.put("/token", headers={"Metadata-Token-Expiry-Seconds": str(seconds)})
        assert (reply.status_code, len(reply.text)) == (200, 64)
        return {"Metadata-Token": reply.text}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.fixture
def serve() -> Iterator[Callable[..., Service]]:
    services: list[Service] = []

    def start(limits: Mapping[str, Limit] | None = None) -> Service:
        services.append(Service(limits or {}))
        return services[-1]

    yield start
    for service in services:
        service.stop()


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """One service for the tests that change nothing."""
    service = Service({})
    yield service
    service.stop()


def test_linodes_own_client_reads_all_of_it(service: Service) -> None:
    with service.http(BLUE) as http:
        client = MetadataClient(client=http, base_url=str(http.base_url).rstrip("/"))
        instance, network = client.get_instance(), client.get_network()
        assert (instance.id, instance.label, instance.region, instance.type) == (1, "demo-1", "de-fra-2", "g6-nanode-1")
        assert (instance.tags, instance.host_uuid, instance.backups.enabled) == (["demo", "app"], f"{1:032x}", False)
        assert (instance.specs.vcpus, instance.specs.memory, instance.specs.disk) == (1, 1024, 25600)
        assert (network.interfaces, network.ipv4.public, network.ipv4.private) == ([], [f"{BLUE}/32"], [])
        assert (network.ipv6.slaac, network.ipv6.ranges) == (None, [])
        assert client.get_ssh_keys().users == {"root": [KEY]}
        assert client.get_user_data() == USER_DATA


def test_text_is_the_default(service: Service) -> None:
    with service.http(BLUE) as client:
        token = service.token(client)
        texts = {name: client.get(f"/{name}", headers=token) for name in DOCUMENTS}
    assert {reply.headers["content-type"] for reply in texts.values()} == {"text/plain; charset=utf-8"}
    assert texts["instance"].text.splitlines() == [
        "backups.enabled: false",
        f"host_uuid: {1:032x}",
        *("id: 1", "label: demo-1", "region: de-fra-2"),
        *("specs.disk: 25600", "specs.gpus: 0", "specs.memory: 1024", "specs.transfer: 1000", "specs.vcpus: 1"),
        *("tags: demo", "tags: app", "type: g6-nanode-1"),
    ]
    assert texts["network"].text == f"ipv4.public: {BLUE}/32\n"
    assert texts["ssh-keys"].text == f"users.root: {KEY}\n"
    assert base64.b64decode(texts["user-data"].text, validate=True).decode() == USER_DATA


def test_lists_are_a_line_for_each_value() -> None:
    assert as_text({"b": [{"c": "x"}, {"c": None}, {"c": 2}], "a": True}) == "a: true\nb.c: x\nb.c: 2\n"


def test_where_there_is_nothing(service: Service) -> None:
    with service.http(GREEN) as client:
        token = service.token(client)
        assert client.get("/ssh-keys", headers={**token, "Accept": "application/json"}).json() == {"users": {}}
        found = client.get("/user-data", headers=token)
        assert (found.status_code, found.text) == (200, "")
        network = client.get("/network", headers={**token, "Accept": "application/json"}).json()
        assert [item["purpose"] for item in network["interfaces"]] == ["public", "vpc"]


@pytest.mark.parametrize("token", [None, "", "x", "0" * 64, "g" * 64, "é" * 64])
@pytest.mark.parametrize("name", DOCUMENTS)
def test_nothing_is_told_without_a_token(service: Service, name: str, token: str | None) -> None:
    headers = [] if token is None else [(b"Metadata-Token", token.encode("latin-1"))]
    with service.http(BLUE) as client:
        reply = client.get(f"/{name}", headers=headers)
    assert (reply.status_code, reply.json()) == (401, {"errors": [{"reason": "Unauthorized"}]})


@pytest.mark.parametrize("seconds", [None, "", "0", "86401", "-1", "1.5", "x", "²", "9" * 5000])
def test_a_token_has_an_end(service: Service, seconds: str | None) -> None:
    headers = [] if seconds is None else [(b"Metadata-Token-Expiry-Seconds", seconds.encode("latin-1"))]
    with service.http(BLUE) as client:
        reply = client.put("/token", headers=headers)
        assert reply.status_code == 400
        assert reply.json()["errors"][0]["field"] == "Metadata-Token-Expiry-Seconds"
        for right in ("1", "86400"):
            headers = [(b"Metadata-Token-Expiry-Seconds", right.encode()), (b"Accept", b"application/json")]
            (token,) = client.put("/token", headers=headers).json()
            assert client.get("/instance", headers={"Metadata-Token": token}).status_code == 200


def test_a_token_is_one_hosts_for_its_time() -> None:
    now = 1000.0
    tokens = Tokens(clock=lambda: now)
    token = tokens.new(7, 60)
    assert tokens.allows(token, 7)
    assert not tokens.allows(token, 8)
    assert not tokens.allows(token[:-1] + ("0" if token[-1] != "0" else "1"), 7)
    assert not Tokens(clock=lambda: now).allows(token, 7)  # after a restart
    now = 1059.9
    assert tokens.allows(token, 7)
    now = 1060.0
    assert not tokens.allows(token, 7)


@pytest.mark.parametrize(
    "claim",
    [
        {"Host": BLUE},
        {"Host": "demo-1"},
        {"X-Forwarded-For": BLUE, "X-Forwarded-Proto": "https", "X-Real-IP": BLUE},
        {"Forwarded": f"for={BLUE}"},
    ],
)
@pytest.mark.parametrize("address", [GREEN, STRANGER, "127.0.0.1"])
def test_no_header_makes_a_host_another_one(service: Service, address: str, claim: dict[str, str]) -> None:
    with service.http(BLUE) as client:
        stolen = service.token(client)
    with service.http(address) as client:
        for headers in (claim, {**claim, **stolen}):
            assert client.get("/user-data", headers=headers).status_code in (401, 404)
        if address == GREEN:
            own = {**claim, **service.token(client), "Accept": "application/json"}
            assert client.get("/instance", headers=own).json()["id"] == 2
            assert client.get("/user-data", headers=own).text == ""


def test_the_same_address_in_two_vpcs_is_two_hosts(service: Service) -> None:
    found = {}
    for router in (None, 5, 6):
        with service.http(BLUE, router) as client:
            headers = {**service.token(client), "Accept": "application/json"}
            found[router] = client.get("/instance", headers=headers).json()["id"]
    assert found == {None: 1, 5: 2, 6: 3}


def test_who_is_no_linode_of_the_router_is_told_nothing(service: Service) -> None:
    for address, router in ((STRANGER, None), (GREEN, 5), ("127.0.0.1", 6)):
        with service.http(address, router) as client:
            reply = client.put("/token", headers={"Metadata-Token-Expiry-Seconds": "60"})
        assert (reply.status_code, reply.json()) == (404, {"errors": [{"reason": "Not found"}]})


def test_unknown_paths_and_methods(service: Service) -> None:
    with service.http(BLUE) as client:
        token = service.token(client)
        for path in ("", "/", "/meta-data", "/../latest/meta-data"):
            assert client.get(path, headers=token, follow_redirects=False).status_code == 404, path
        for method, path in (("GET", "/token"), ("POST", "/token"), ("PUT", "/instance"), ("DELETE", "/user-data")):
            reply = client.request(method, path, headers=token)
            assert (reply.status_code, reply.json()) == (405, {"errors": [{"reason": "Method Not Allowed"}]})


def test_one_host_cannot_ask_for_ever(serve: Callable[..., Service]) -> None:
    service = serve({"other": Limit(3, 60)})
    with service.http(BLUE) as client:
        token = service.token(client)
        codes = [client.get("/instance", headers=token).status_code for _ in range(3)]
    assert codes == [200, 200, 429]
    with service.http(GREEN) as client:
        service.token(client)


def test_a_host_that_was_deleted_is_told_nothing(serve: Callable[..., Service]) -> None:
    service = serve()
    with service.http(BLUE) as client:
        token = service.token(client)
        service.store.delete(service.store.all(Instance)[0])
        assert client.get("/user-data", headers=token).status_code == 404


def test_a_routers_socket_is_closed_with_it(serve: Callable[..., Service]) -> None:
    service = serve()
    service.end(5)
    assert service.metadata.served == {None, 6}
    with service.http(BLUE, 5) as client, pytest.raises(httpx.ConnectError):
        client.get("/instance")
    with service.http(BLUE, 6) as client:
        service.token(client)


def test_the_log_names_who_asks_and_no_secret(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    with service.http(BLUE) as client:
        token = service.token(client)
        assert client.get("/user-data", headers=token).text
    assert "metadata for demo-1: GET /v1/user-data 200" in caplog.text
    assert token["Metadata-Token"] not in caplog.text and _base64(USER_DATA) not in caplog.text
