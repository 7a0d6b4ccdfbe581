# SPDX-License-Identifier: GPL-3.0-or-later
"""Domains and their records."""

from __future__ import annotations

import pytest
from lab_server import TOKEN, Server
from linode_api4 import LinodeClient


def domain(api: Server) -> str:
    wish = {"domain": "example.org", "type": "master", "soa_email": "admin@example.org"}
    return f"/domains/{api.post('/domains', **wish)['id']}"


def test_with_the_sdk(api: Server) -> None:
    client = LinodeClient(TOKEN, base_url=f"{api.address}/v4")
    zone = client.domain_create("example.org", master=True, soa_email="admin@example.org", tags=["demo"])
    record = zone.record_create("A", name="www", target="192.0.2.1", ttl_sec=300)
    record.target = "192.0.2.2"
    record.save()
    assert [(row.name, row.target, row.ttl_sec) for row in zone.records] == [("www", "192.0.2.2", 300)]
    zone.description = "ours"
    zone.save()
    assert [(row.domain, row.description, row.tags) for row in client.domains()] == [("example.org", "ours", ["demo"])]
    record.delete()
    zone.record_create("A", name="www", target="192.0.2.3")
    zone.delete()
    assert api.get("/domains")["results"] == 0


def test_bad_domains(api: Server) -> None:
    path = domain(api)
    again = {"domain": "example.org", "type": "master", "soa_email": "admin@example.org"}
    assert api.refusals("POST", "/domains", **again) == {"domain": "Domain already exists"}
    assert api.refusals("POST", "/domains") == {"domain": "domain is required", "type": "type is required"}
    assert api.refusals("PUT", path, ttl_sec="long") == {"ttl_sec": "Must be an integer"}
    assert api.refusals("POST", "/domains", domain="a.example", type="master") == {
        "soa_email": "soa_email required when type=master"
    }


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"type": "A", "target": "2001:db8::1"}, "target"),
        ({"type": "AAAA", "target": "192.0.2.1"}, "target"),
        ({"type": "A"}, "target"),
        ({"type": "PTR", "target": "192.0.2.1"}, "type"),
        ({"type": "CNAME", "target": "not a name"}, "target"),
        ({"type": "SRV", "target": "a.example.org"}, "service"),
        ({"type": "CAA", "target": "ca.example"}, "tag"),
        ({"type": "A", "name": "www", "target": "192.0.2.1"}, "target"),
        ({"type": "CNAME", "name": "www", "target": "a.example.org"}, "name"),
    ],
)
def test_bad_records(api: Server, wish: dict[str, object], field: str) -> None:
    path = domain(api)
    api.post(f"{path}/records", type="A", name="www", target="192.0.2.1")
    assert set(api.refusals("POST", f"{path}/records", **wish)) == {field}
    assert api.get(f"{path}/records")["results"] == 1


def test_every_type_of_record(api: Server) -> None:
    path = domain(api)
    for number, (kind, target, more) in enumerate(
        [
            ("A", "192.0.2.1", {}),
            ("AAAA", "2001:db8::1", {}),
            ("NS", "ns.example.net", {}),
            ("MX", "mail.example.net", {"priority": 10}),
            ("CNAME", "a.example.net", {}),
            ("TXT", "any text at all", {}),
            ("SRV", "a.example.net", {"service": "_sip", "protocol": "_tcp", "port": 5060}),
            ("CAA", "ca.example.net", {"tag": "issue"}),
        ]
    ):
        made = api.post(f"{path}/records", type=kind, name=f"n{number}", target=target, **more)
        assert api.get(f"{path}/records/{made['id']}") == made
    other = api.post("/domains", domain="example.net", type="master", soa_email="a@example.net")["id"]
    assert api.http.get(f"/domains/{other}/records/{made['id']}").status_code == 404


def test_a_clone_and_a_zone_file(api: Server) -> None:
    path = domain(api)
    api.post(f"{path}/records", type="A", name="www", target="192.0.2.1")
    api.post(f"{path}/records", type="SRV", target="sip.example.net", service="_sip", priority=10, weight=5, port=5060)
    copy = api.post(f"{path}/clone", domain="example.net")
    assert (copy["domain"], copy["soa_email"]) == ("example.net", "admin@example.org")
    assert len(api.get(f"/domains/{copy['id']}/records")["data"]) == 2
    assert api.refusals("POST", f"{path}/clone", domain="example.net") == {"domain": "Domain already exists"}
    lines = api.get(f"/domains/{copy['id']}/zone-file")["zone_file"]
    assert lines[0].startswith("; example.net") and "@ NS ns1.linode.com." in lines
    assert lines[-2:] == ["www A 192.0.2.1", "_sip._tcp SRV 10 5 5060 sip.example.net"]
