# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may ask, how often, and how refusals look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from lab_server import TOKEN, Server

from lab.limits import RateLimiter
from lab.settings import LINODE_LIMITS, Limit, SettingError, Settings, parse_limits


@pytest.mark.parametrize("authorization", ["", "Bearer wrong", TOKEN, f"Basic {TOKEN}", f"bearer {TOKEN}"])
def test_no_token_no_answer(shared: Server, authorization: str) -> None:
    for path in ("/profile", "/linode/instances", "/vpcs", "/regions/vpc-availability"):
        reply = shared.http.get(path, headers={"Authorization": authorization})
        assert (reply.status_code, reply.json()) == (401, {"errors": [{"reason": "Invalid Token"}]})


def test_types_and_regions_are_for_anyone(shared: Server) -> None:
    for path in ("/regions", "/regions/de-fra-2", "/linode/types", "/linode/types/g6-nanode-1"):
        assert shared.http.get(path, headers={"Authorization": ""}).status_code == 200


@pytest.mark.parametrize(
    "host", ["attacker.example", "attacker.example:4500", "127.0.0.1.attacker.example", "", "[::1]"]
)
def test_a_foreign_host_header_is_refused(shared: Server, host: str) -> None:
    reply = shared.http.get("/regions", headers={"Host": host})
    assert reply.status_code == 403
    assert "127.0.0.1 and localhost only" in reply.json()["errors"][0]["reason"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "localhost:4500"])
def test_this_machines_names_are_not(shared: Server, host: str) -> None:
    assert shared.http.get("/regions", headers={"Host": host}).status_code == 200


def test_both_versions(shared: Server) -> None:
    assert shared.get("/profile") == shared.get(f"{shared.address}/v4beta/profile")


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/no/such/path", 404, "Not found"),
        ("GET", "/linode/instances/1", 404, "Not found"),
        ("GET", "/linode/instances/one", 404, "Not found"),
        ("GET", "/linode/types/g6-fake-1", 404, "Not found"),
        ("GET", "/images/linode/fake", 404, "Not found"),
        ("GET", "/tags/none", 404, "Not found"),
        ("GET", "/account/events/1", 404, "Not found"),
        ("POST", "/profile", 405, "Method Not Allowed"),
    ],
)
def test_what_is_not_there(shared: Server, method: str, path: str, status: int, reason: str) -> None:
    reply = shared.http.request(method, path)
    assert (reply.status_code, reply.json()) == (status, {"errors": [{"reason": reason}]})


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"{", 400, "Invalid JSON"),
        (b"[]", 400, "Request body must be a JSON object"),
        (b" " * (1 << 20) + b"{}", 413, "Request body too large"),
    ],
)
def test_bad_bodies(shared: Server, body: bytes, status: int, reason: str) -> None:
    reply = shared.http.post("/tags", content=body)
    assert (reply.status_code, reply.json()) == (status, {"errors": [{"reason": reason}]})


def test_creates_are_limited(serve: Callable[..., Server], settings: Settings) -> None:
    api = serve(replace(settings, limits={**LINODE_LIMITS, "create": Limit(3, 60)}))
    replies = [api.http.post("/linode/instances", json={}) for _ in range(4)]
    assert [reply.status_code for reply in replies] == [400, 400, 400, 429]
    assert replies[-1].json() == {"errors": [{"reason": "Too many requests"}]}
    assert [reply.headers["x-ratelimit-remaining"] for reply in replies] == ["2", "1", "0", "0"]
    assert replies[-1].headers["x-ratelimit-limit"] == "3"
    assert 0 < int(replies[-1].headers["retry-after"]) <= 60
    assert api.http.get("/profile").status_code == 200  # another kind


def test_listings_are_limited_together(serve: Callable[..., Server], settings: Settings) -> None:
    api = serve(replace(settings, limits={"list": Limit(2, 60)}))
    codes = [api.http.get(path).status_code for path in ("/tags", "/vpcs", "/linode/instances")]
    assert codes == [200, 200, 429]
    assert "retry-after" not in api.http.get("/profile").headers  # no limit, no header


def test_a_window_ends() -> None:
    time = [0.0]
    limiter = RateLimiter({"create": Limit(2, 15)}, clock=lambda: time[0])
    assert [limiter.take("a", "create")[0] for _ in range(3)] == [True, True, False]
    assert limiter.take("b", "create")[0]
    time[0] = 14.9
    allowed, headers = limiter.take("a", "create")
    assert (allowed, headers["Retry-After"]) == (False, "1")
    time[0] = 15.0
    assert limiter.take("a", "create")[0]


def test_limits_as_text() -> None:
    assert LINODE_LIMITS["create"] == Limit(20, 15) and LINODE_LIMITS["list"] == Limit(200, 60)
    assert parse_limits("") == LINODE_LIMITS
    assert parse_limits("create=5/1, list=9/2") == {**LINODE_LIMITS, "create": Limit(5, 1), "list": Limit(9, 2)}
    assert parse_limits("none") == {}
    for text in ("create", "create=0/1", "creates=1/1", "create=1"):
        with pytest.raises(SettingError, match="C50K_LAB_LIMITS has"):
            parse_limits(text)
