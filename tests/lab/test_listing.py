# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages and X-Filter."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from lab_server import Server

TYPES = "/linode/types"


def listed(api: Server, path: str, query: Any, **params: Any) -> list[Any]:
    return api.get(path, headers={"X-Filter": json.dumps(query)}, params={"page_size": 500, **params})["data"]


def ids(api: Server, query: Any) -> set[str]:
    return {row["id"] for row in listed(api, TYPES, query)}


def test_pages_hold_everything_once(api: Server) -> None:
    for number in range(30):
        api.post("/tags", label=f"tag{number:02}")
    pages = [api.get("/tags", params={"page": number, "page_size": 25}) for number in (1, 2)]
    assert [(page["page"], page["pages"], page["results"]) for page in pages] == [(1, 2, 30), (2, 2, 30)]
    assert [row["label"] for page in pages for row in page["data"]] == [f"tag{number:02}" for number in range(30)]


def test_an_empty_listing_has_one_page(shared: Server) -> None:
    assert shared.get("/linode/instances") == {"data": [], "page": 1, "pages": 1, "results": 0}


@pytest.mark.parametrize(
    ("params", "field", "reason"),
    [
        ({"page_size": 24}, "page_size", "Must be 25-500"),
        ({"page_size": 501}, "page_size", "Must be 25-500"),
        ({"page_size": "many"}, "page_size", "Must be an integer"),
        ({"page": 0}, "page", "Must be 1-1"),
        ({"page": 2}, "page", "Must be 1-1"),
    ],
)
def test_bad_pages_are_refused(shared: Server, params: dict[str, Any], field: str, reason: str) -> None:
    reply = shared.http.get("/regions", params=params)
    assert (reply.status_code, reply.json()) == (400, {"errors": [{"reason": reason, "field": field}]})


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"vcpus": 4, "class": "dedicated"}, {"g6-dedicated-4"}),
        ({"vcpus": {"+gt": 50}}, {"g6-dedicated-56", "g6-dedicated-64"}),
        ({"vcpus": {"+gte": 56}}, {"g6-dedicated-56", "g6-dedicated-64"}),
        ({"memory": {"+lt": 2048}}, {"g6-nanode-1"}),
        ({"memory": {"+lte": 2048}}, {"g5-standard-1", "g6-nanode-1", "g6-standard-1"}),
        ({"memory": {"+gt": 1024, "+lt": 4096}}, {"g5-standard-1", "g6-standard-1"}),
        ({"label": {"+contains": "Nanode"}}, {"g6-nanode-1"}),
        ({"class": {"+neq": "highmem"}, "vcpus": 2}, {"g6-standard-2", "g6-dedicated-2", "g7-premium-2"}),
        ({"+and": [{"vcpus": 2}, {"class": "standard"}]}, {"g6-standard-2"}),
        ({"+or": [{"vcpus": 64}, {"+and": [{"vcpus": 1}, {"class": "nanode"}]}]}, {"g6-nanode-1", "g6-dedicated-64"}),
        ({"vcpus": {"+gt": "many"}}, set()),
    ],
)
def test_each_operator(shared: Server, query: Any, expected: set[str]) -> None:
    assert ids(shared, query) == expected


def test_order(shared: Server) -> None:
    query = {"class": "dedicated", "+order_by": "vcpus"}
    counts = [row["vcpus"] for row in listed(shared, TYPES, {**query, "+order": "desc"})]
    assert counts == [64, 56, 50, 48, 32, 16, 8, 4, 2]
    assert [row["vcpus"] for row in listed(shared, TYPES, query)] == counts[::-1]


def test_a_filter_goes_before_the_pages(api: Server) -> None:
    for number in range(60):
        api.post("/tags", label=f"{'even' if number % 2 == 0 else 'odd'}{number}")
    page = api.get(
        "/tags", headers={"X-Filter": '{"label": {"+contains": "even"}}'}, params={"page": 2, "page_size": 25}
    )
    assert (page["results"], page["pages"], len(page["data"])) == (30, 2, 5)


def test_lists_and_dotted_keys(api: Server) -> None:
    first, second = (api.linode(label=name, tags=tags) for name, tags in (("one", ["blue", "red"]), ("two", ["red"])))
    assert [row["label"] for row in listed(api, "/linode/instances", {"tags": "blue"})] == ["one"]
    assert [row["label"] for row in listed(api, "/linode/instances", {"ipv4": second["ipv4"][0]})] == ["two"]
    assert [row["label"] for row in listed(api, "/linode/instances", {"tags": {"+contains": "lu"}})] == ["one"]
    events = listed(api, "/account/events", {"entity.id": first["id"], "entity.type": "linode"})
    assert events and {event["entity"]["label"] for event in events} == {"one"}


@pytest.mark.parametrize(
    ("path", "header", "reason"),
    [
        (TYPES, '{"foo": 1}', "Cannot filter on foo"),
        ("/linode/instances", '{"status": "running"}', "Cannot filter on status"),
        ("/linode/instances", '{"type": "g6-nanode-1"}', "Cannot filter on type"),
        ("/images", '{"+or": [{"label": "x"}, {"foo": "bar"}]}', "Cannot filter on foo"),
        (TYPES, '{"vcpus": {"+near": 3}}', "+near is not a filter operator"),
        (TYPES, '{"+or": {"vcpus": 3}}', "+or takes an array of objects"),
        (TYPES, '{"+order_by": "foo"}', "Cannot order by foo"),
        (TYPES, '{"+order_by": ["vcpus"]}', "Cannot order by ['vcpus']"),
        (TYPES, '{"+order": "up"}', "+order must be asc or desc"),
        (TYPES, "vcpus=3", "Filter not valid JSON"),
        (TYPES, "[]", "Filter must be a JSON object"),
    ],
)
def test_bad_filters_are_refused(shared: Server, path: str, header: str, reason: str) -> None:
    reply: httpx.Response = shared.http.get(path, headers={"X-Filter": header})
    assert (reply.status_code, reply.json()) == (400, {"errors": [{"reason": reason, "field": "X-Filter"}]})
