# SPDX-License-Identifier: GPL-3.0-or-later
"""Linodes: what a request may ask, what it gets, and how addresses come and go."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from lab_server import KEY, Server

from lab.models import Instance
from lab.settings import Settings

PATH = "/linode/instances"
WISH = {"type": "g6-nanode-1", "region": "de-fra-2", "image": "linode/debian13", "authorized_keys": [KEY]}


def new(*interfaces: Any) -> dict[str, Any]:
    return {"interface_generation": "linode", "interfaces": list(interfaces)}


def vpc(subnet: Any, address: str = "auto", **options: Any) -> dict[str, Any]:
    addresses = [{"address": address, "primary": True, **options}]
    return {"vpc": {"subnet_id": subnet["id"], "ipv4": {"addresses": addresses}}}


def user_data(text: str) -> dict[str, Any]:
    return {"metadata": {"user_data": base64.b64encode(text.encode()).decode()}}


def test_a_linode_as_created(api: Server) -> None:
    linode = api.linode(label="demo-app_server-1", tags=["demo", "app_server"])
    assert linode["status"] == "provisioning"
    assert linode["specs"] == {
        **{"disk": 25600, "memory": 1024, "vcpus": 1, "transfer": 1000},
        **{"gpus": 0, "accelerated_devices": 0},
    }
    assert linode["ipv4"] == ["198.51.100.2"]
    assert (linode["interface_generation"], linode["image"], linode["tags"]) == (
        *("legacy_config", "linode/debian13"),
        ["demo", "app_server"],
    )
    settled = api.settled(linode["id"], "running")
    assert {**settled, "status": 0, "updated": 0} == {**linode, "status": 0, "updated": 0}
    host = api.hosts.hosts[linode["id"]]
    assert (host.label, host.image, host.vcpus, host.memory_mib) == ("demo-app_server-1", "linode/debian13", 1, 1024)
    assert (host.public_ipv4, host.vpc, host.authorized_keys) == ("198.51.100.2", (), (KEY,))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            {"type": "g6-fake-plan", "region": "us-fakeregion"},
            {"type": "A valid plan type by that ID was not found", "region": "region is not valid"},
        ),
        ({"type": None, "region": None}, {"type": "type is required", "region": "region is required"}),
        ({"image": "linode/windows"}, {"image": "image is not valid"}),
        ({"image": 13}, {"image": "Must be a string"}),
        (
            {"authorized_keys": []},
            {"root_pass": "An image needs one of root_pass, authorized_keys, authorized_users"},
        ),
        ({"authorized_keys": [KEY, "ssh-rsa nonsense"]}, {"authorized_keys": "SSH Key 2 is not"}),
        ({"authorized_keys": [KEY.replace("ed25519", "rsa")]}, {"authorized_keys": "SSH Key 1 is not"}),
        ({"authorized_keys": [f"{KEY}\n{KEY}"]}, {"authorized_keys": "SSH Key 1 is not"}),
        ({"authorized_users": ["nobody"]}, {"authorized_users[0]": "User nobody does not exist"}),
        ({"root_pass": "short"}, {"root_pass": "Length must be 11-128 characters"}),
        ({"label": "ab"}, {"label": "Label must be between 3 and 64 characters"}),
        ({"label": "-abc"}, {"label": "Label must begin and end"}),
        ({"label": "a b c"}, {"label": "Label must begin and end"}),
        ({"label": "a--b"}, {"label": "Label cannot have two dashes"}),
        ({"tags": ["ok!", "ab"]}, {"tags": "Length must be 3-50 characters"}),
        ({"tags": ["x" * 51]}, {"tags": "Length must be 3-50 characters"}),
        ({"tags": [7]}, {"tags": "Must be a string"}),
        ({"tags": "demo"}, {"tags": "Must be an array"}),
        ({"booted": "yes"}, {"booted": "Must be a boolean"}),
        ({"firewall_id": 5}, {"firewall_id": "A Firewall by that ID was not found"}),
        ({"placement_group": {"id": 5}}, {"placement_group": "A Placement Group by that ID was not found"}),
        (
            {"image": "linode/slackware15.0", "metadata": {"user_data": "eA=="}},
            {"metadata.user_data": "This image has no cloud-init"},
        ),
        ({"metadata": "eA=="}, {"metadata": "Must be an object"}),
        (user_data("x" * 16_385), {"metadata.user_data": "decoded user_data must not exceed 16384 bytes"}),
        *(
            ({"metadata": {"user_data": bad}}, {"metadata.user_data": "user_data must be a base64 encoded string"})
            for bad in ("#cloud-config", "eA", "eA==\n", "é", 7, ["eA=="])
        ),
        ({"maintenance_policy": "never"}, {"maintenance_policy": "Must be one of linode/migrate"}),
        ({"interface_generation": "third"}, {"interface_generation": "Must be one of legacy_config, linode"}),
        ({"interfaces": {"public": {}}}, {"interfaces": "Must be an array of objects"}),
        ({"interfaces": [{"public": {}}]}, {"interfaces[0].purpose": "purpose is required"}),
        ({"interfaces": [{"purpose": "vlan"}]}, {"interfaces[0].label": "label is required"}),
        ({"interfaces": [{"purpose": "vlan", "label": "a--b"}]}, {"interfaces[0].label": "Must be 1-64 ASCII letters"}),
        ({"interfaces": [{"purpose": "public"}] * 2}, {"interfaces": "A Linode can have one public interface"}),
        ({"interfaces": [{"purpose": "vpc"}]}, {"interfaces[0].subnet_id": "subnet_id is required"}),
        ({"interfaces": [{"purpose": "vpc", "subnet_id": 9}]}, {"interfaces[0].subnet_id": "A Subnet by that ID"}),
        (
            {"interfaces": [{"purpose": "vpc", "subnet_id": 9, "ipv4": [1]}]},
            {"interfaces[0].ipv4": "Must be an object", "interfaces[0].subnet_id": "A Subnet by that ID"},
        ),
        (new({"purpose": "public"}), {"interfaces[0]": "Must have one of public, vpc, vlan"}),
        (new({"public": {}, "vpc": {}}), {"interfaces[0]": "Must have one of public, vpc, vlan"}),
        (
            new({"vlan": {"vlan_label": "x", "ipam_address": "ten"}}),
            {"interfaces[0].vlan.ipam_address": "Must be an IPv4 address with a prefix"},
        ),
        (new(*[{"vlan": {"vlan_label": "x"}}] * 2), {"interfaces": "A Linode can be attached to a VLAN once"}),
        (new({"public": {}, "firewall_id": 4}), {"interfaces[0].firewall_id": "A Firewall by that ID was not found"}),
        (
            new({"public": {"ipv4": {"addresses": [{"address": "198.51.100.9"}]}}}),
            {"interfaces[0].public.ipv4.addresses[0].address": "198.51.100.9 is neither the Linode's nor a free"},
        ),
        (
            new({"public": {"ipv4": {"addresses": [7]}}}),
            {"interfaces[0].public.ipv4.addresses": "Must be an array of objects"},
        ),
        (new({"public": {}}) | {"private_ip": True}, {"private_ip": "Linodes with Linode interfaces cannot have"}),
        ({"image": None, "interfaces": [{"purpose": "public"}]}, {"interfaces": "Without an image"}),
        ({"kernel": "linode/2.4"}, {"kernel": "A Kernel by that ID was not found"}),
        ({"boot_size": 99999}, {"boot_size": "Must be 8192-25600"}),
        ({"ipv4": ["198.51.100.9"]}, {"ipv4": "198.51.100.9 is neither the Linode's nor a free reserved"}),
        ({"disk_encryption": "some"}, {"disk_encryption": "Must be one of enabled, disabled"}),
        (
            {"type": "g7-premium-2", "region": "us-east"},
            {"type": "This plan is not currently available in the selected region"},
        ),
    ],
)
def test_bad_requests_are_refused_whole(shared: Server, body: Any, expected: dict[str, str]) -> None:
    found = shared.refusals("POST", PATH, **{**WISH, **body})
    assert found.keys() == expected.keys()
    assert all(found[name].startswith(reason) for name, reason in expected.items()), found
    assert shared.get(PATH)["results"] == 0


def test_labels_are_unique(api: Server) -> None:
    first = api.linode(label="twin")
    unique = {"label": "Label must be unique among your linodes"}
    assert api.refusals("POST", PATH, **WISH, label="twin") == unique
    second = api.linode()
    assert second["label"] == f"linode{second['id']}"
    assert api.refusals("PUT", f"{PATH}/{second['id']}", label="twin") == unique
    assert api.put(f"{PATH}/{first['id']}", label="twin")["label"] == "twin"  # its own is no conflict
    assert api.get(PATH)["results"] == 2


def test_update(api: Server) -> None:
    linode = api.linode(tags=["old"])
    body = {"label": "renamed", "tags": ["new", "new"], "group": "g", "watchdog_enabled": False, "alerts": {"cpu": 50}}
    changed = api.put(f"{PATH}/{linode['id']}", **body, status="gone", id=7)
    assert {name: changed[name] for name in ("label", "tags", "group", "watchdog_enabled", "id")} == {
        **{"label": "renamed", "tags": ["new"], "group": "g", "watchdog_enabled": False},
        "id": linode["id"],
    }
    assert (changed["alerts"]["cpu"], changed["alerts"]["io"]) == (50, 10000)
    assert api.refusals("PUT", f"{PATH}/{linode['id']}", tags=["a"]) == {"tags": "Length must be 3-50 characters"}
    assert api.get(f"{PATH}/{linode['id']}")["tags"] == ["new"]


def test_legacy_interfaces(api: Server) -> None:
    subnet = api.subnet()
    asked = {"purpose": "vpc", "subnet_id": subnet["id"], "primary": True, "ipv4": {"vpc": "10.0.0.10"}}
    linode = api.linode(interfaces=[{"purpose": "public"}, asked])
    api.settled(linode["id"], "running")
    host = api.hosts.hosts[linode["id"]]
    assert host.public_ipv4 == linode["ipv4"][0]
    assert [(item.vpc_id, item.subnet_id, item.address, item.subnet) for item in host.vpc] == [
        (subnet["vpc_id"], subnet["id"], "10.0.0.10", "10.0.0.0/24")
    ]
    (row,) = api.get("/vpcs/ips")["data"]
    assert (row["linode_id"], row["address"], row["nat_1_1"], row["active"]) == (linode["id"], "10.0.0.10", None, True)
    assert (row["gateway"], row["prefix"], row["subnet_mask"]) == ("10.0.0.1", 24, "255.255.255.0")
    assert isinstance(row["config_id"], int)


def test_a_legacy_linode_lists_an_address_that_is_nowhere(api: Server) -> None:
    subnet = api.subnet()
    linode = api.linode(interfaces=[{"purpose": "vpc", "subnet_id": subnet["id"]}])
    api.settled(linode["id"], "running")
    assert len(linode["ipv4"]) == 1
    assert api.hosts.hosts[linode["id"]].public_ipv4 is None


def test_one_to_one_nat_makes_it_reachable(api: Server) -> None:
    subnet = api.subnet()
    legacy = api.linode(interfaces=[{"purpose": "vpc", "subnet_id": subnet["id"], "ipv4": {"nat_1_1": "any"}}])
    linode = api.linode(**new(vpc(subnet, nat_1_1_address="auto")))
    for made in (legacy, linode):
        api.settled(made["id"], "running")
        assert api.hosts.hosts[made["id"]].public_ipv4 == made["ipv4"][0]
    assert [row["nat_1_1"] for row in api.get("/vpcs/ips")["data"]] == [legacy["ipv4"][0], linode["ipv4"][0]]


def test_new_interfaces(api: Server) -> None:
    subnet = api.subnet()
    both = api.linode(**new({"public": {}}, vpc(subnet, "10.0.0.20")))
    private = api.linode(**new({"vpc": {"subnet_id": subnet["id"]}}))
    plain = api.linode(**new())
    for linode in (both, private, plain):
        api.settled(linode["id"], "running")
    hosts = [api.hosts.hosts[linode["id"]] for linode in (both, private, plain)]
    assert [host.public_ipv4 for host in hosts] == [*both["ipv4"], None, None]
    assert [[item.address for item in host.vpc] for host in hosts] == [["10.0.0.20"], ["10.0.0.2"], []]
    assert (private["ipv4"], private["ipv6"], len(plain["ipv4"])) == ([], None, 1)  # of no interface, but assigned
    rows = api.get(f"/vpcs/{subnet['vpc_id']}/ips")["data"]
    assert [(row["linode_id"], row["config_id"]) for row in rows] == [(both["id"], None), (private["id"], None)]


@pytest.mark.parametrize("address", ["10.0.0.0", "10.0.0.1", "10.0.0.254", "10.0.0.255", "10.0.1.10", "10.0.0.300", 7])
def test_addresses_that_are_not_for_hosts(api: Server, address: Any) -> None:
    subnet = api.subnet()
    fields = ("interfaces[0].ipv4.vpc", "interfaces[0].vpc.ipv4.addresses[0].address")
    legacy = [{"purpose": "vpc", "subnet_id": subnet["id"], "ipv4": {"vpc": address}}]
    assert tuple(api.refusals("POST", PATH, **WISH, interfaces=legacy)) == fields[:1]
    assert tuple(api.refusals("POST", PATH, **WISH, **new(vpc(subnet, address)))) == fields[1:]


def test_a_vpc_address_has_one_owner_at_a_time(api: Server) -> None:
    subnet = api.subnet()
    first = api.linode(**new(vpc(subnet, "10.0.0.10")))
    refused = api.refusals("POST", PATH, **WISH, **new(vpc(subnet, "10.0.0.10")))
    assert list(refused.values()) == ["10.0.0.10 is already in use in subnet main"]
    api.delete(f"{PATH}/{first['id']}")
    api.linode(**new(vpc(subnet, "10.0.0.10")))


def test_a_vpc_of_another_region_is_refused(api: Server) -> None:
    refused = api.refusals("POST", PATH, **{**WISH, "region": "us-ord"}, **new(vpc(api.subnet())))
    assert "is in region de-fra-2, the Linode in us-ord" in refused["interfaces[0].vpc.subnet_id"]


def test_a_freed_address_is_not_the_next_one(api: Server) -> None:
    first, second = api.linode(), api.linode()
    api.delete(f"{PATH}/{first['id']}")
    assert [first["ipv4"], second["ipv4"], api.linode()["ipv4"]] == [
        ["198.51.100.2"],
        ["198.51.100.3"],
        ["198.51.100.4"],
    ]


def test_a_full_subnet_gives_all_back(api: Server) -> None:
    subnet = api.subnet("10.0.0.0/29")
    made = [api.linode(**new({"public": {}}, vpc(subnet))) for _ in range(4)]
    assert [row["address"] for row in api.get("/vpcs/ips")["data"]] == ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"]
    full = {None: "No free IPv4 address is left for this Linode"}
    assert api.refusals("POST", PATH, **WISH, **new({"public": {}}, vpc(subnet))) == full
    public = api.lab.addresses.public
    assert not public.is_free(made[-1]["ipv4"][0]) and public.is_free("198.51.100.6")
    assert api.get(PATH)["results"] == 4


def test_public_addresses_leave_out_the_labs_own(serve: Callable[..., Server], settings: Settings) -> None:
    api = serve(replace(settings, hosts=True, limits={}))
    given = [api.linode(booted=False)["ipv4"][0] for _ in range(248)]
    assert given == [f"198.51.100.{last}" for last in range(2, 250)]
    assert api.refusals("POST", PATH, **WISH) == {None: "No free IPv4 address is left for this Linode"}


def test_without_hosts_there_are_more(serve: Callable[..., Server], settings: Settings) -> None:
    api = serve(replace(settings, limits={}))
    given = [api.linode(booted=False)["ipv4"][0] for _ in range(250)]
    assert given[247:] == ["198.51.100.249", "198.18.0.1", "198.18.0.2"]


def test_ips_by_kind(api: Server) -> None:
    subnet = api.subnet()
    asked = [{"purpose": "public"}, {"purpose": "vpc", "subnet_id": subnet["id"], "ipv4": {"nat_1_1": "any"}}]
    linode = api.linode(interfaces=asked, private_ip=True)
    ips = api.get(f"{PATH}/{linode['id']}/ips")
    public, private = linode["ipv4"]
    (row,) = ips["ipv4"]["public"]
    assert (row["address"], row["gateway"], row["prefix"], row["public"]) == (public, "198.51.100.1", 24, True)
    assert row["vpc_nat_1_1"] == {"address": "10.0.0.2", "subnet_id": subnet["id"], "vpc_id": subnet["vpc_id"]}
    (row,) = ips["ipv4"]["private"]
    assert (row["address"], row["gateway"], row["subnet_mask"]) == (private, None, "255.255.128.0")
    assert ips["ipv4"]["vpc"] == api.get("/vpcs/ips")["data"]
    assert f"{ips['ipv6']['slaac']['address']}/128" == linode["ipv6"]


def test_user_data_goes_to_the_host_alone(api: Server, settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    asked = user_data("#cloud-config\n" + "# hunter2\n" * 1637)  # 16384 bytes
    secret = asked["metadata"]["user_data"]
    linode = api.linode(**asked)
    assert linode["has_user_data"] is True
    settled = api.settled(linode["id"], "running")
    assert settled["has_user_data"] is True
    assert api.hosts.hosts[linode["id"]].cloud_init is True
    shown = [linode, settled, *(api.get(path) for path in (PATH, "/account/events", f"{api.address}/lab/state"))]
    for text in (str(shown), repr(api.lab.store.all(Instance)), str(api.hosts.hosts), caplog.text):
        assert "hunter2" not in text and secret[20:60] not in text
    assert any(secret[20:60].encode() in path.read_bytes() for path in settings.state.iterdir())


@pytest.mark.parametrize("body", [{}, {"metadata": {}}, {"metadata": None}, {"metadata": {"user_data": None}}])
def test_without_user_data_there_is_no_cloud_init(api: Server, body: Any) -> None:
    linode = api.linode(**body)
    assert api.settled(linode["id"], "running")["has_user_data"] is False
    assert api.hosts.hosts[linode["id"]].cloud_init is False


def test_images_are_those_the_hosts_have(serve: Callable[..., Server], settings: Settings) -> None:
    api = serve(replace(settings, hosts=True))
    assert {row["id"]: row["label"] for row in api.get("/images")["data"]} == {
        **{"linode/debian13": "Debian 13", "private/1": "c50k-golden"}
    }
    assert api.refusals("POST", PATH, **{**WISH, "image": "linode/debian12"}) == {"image": "image is not valid"}
    assert api.get("/images/private/1")["is_public"] is False
    assert all(row["capabilities"] == ["cloud-init"] for row in api.get("/images")["data"])
