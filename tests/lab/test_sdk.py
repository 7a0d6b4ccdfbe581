# SPDX-License-Identifier: GPL-3.0-or-later
"""The main flows with Linode's own client."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from lab_server import KEY, TOKEN, Server, wait_for
from linode_api4 import ApiError, Instance, LinodeClient, PlacementGroupPolicy, PlacementGroupType

from lab.settings import Limit, Settings


def client(api: Server, version: str = "v4", **options: object) -> LinodeClient:
    sdk = LinodeClient(TOKEN, base_url=f"{api.address}/{version}", **options)
    sdk.session.trust_env = False
    return sdk


def test_a_fleet_from_vpc_to_nothing(api: Server) -> None:
    sdk = client(api, "v4beta", page_size=500)
    vpc = sdk.vpcs.create("demo", "de-fra-2", subnets=[{"label": "demo", "ipv4": "10.0.0.0/20"}])
    poller = sdk.polling.event_poller_create("linode", "linode_create")
    instance = sdk.linode.instance_create(
        "g6-dedicated-4",
        "de-fra-2",
        image="linode/debian13",
        label="demo-app_server-1",
        tags=["demo", "app_server"],
        authorized_keys=[KEY],
        interface_generation="linode",
        interfaces=[
            {"public": {}},
            {
                "vpc": {
                    "subnet_id": vpc.subnets[0].id,
                    "ipv4": {"addresses": [{"address": "10.0.2.10", "primary": True}]},
                }
            },
        ],
    )
    poller.set_entity_id(instance.id)
    event = poller.wait_for_next_event_finished(timeout=10, interval=1)
    assert (event.status, event.entity.label) == ("finished", "demo-app_server-1")
    sdk.polling.wait_for_entity_free("linode", instance.id, timeout=10, interval=1)

    loaded = sdk.load(Instance, instance.id)
    assert (loaded.status, loaded.type.vcpus, loaded.region.country) == ("running", 4, "de")
    assert [row.address for row in loaded.ips.ipv4.vpc] == ["10.0.2.10"]
    assert [row.linode_id for row in sdk.vpcs.ips()] == [instance.id]
    assert [linode.id for linode in vpc.subnets[0].linodes] == [instance.id]
    assert [item.id for item in sdk.linode.instances(Instance.label == "demo-app_server-1")] == [instance.id]
    assert [item.id for item in sdk.tags()[1].objects] == [instance.id]

    instance.label, instance.tags = "renamed", ["demo"]
    assert instance.save()
    assert instance.reboot()
    with pytest.raises(ApiError, match="Linode busy|cannot be deleted"):
        instance.shutdown() and vpc.delete()
    wait_for(lambda: not api.lab.lifecycle._work)
    assert instance.delete()
    assert vpc.subnets[0].delete()
    assert vpc.delete()
    assert len(sdk.linode.instances()) == len(sdk.vpcs()) == 0


def test_firewalls_and_placement_groups(api: Server) -> None:
    sdk = client(api, "v4beta")
    rule = {"action": "ACCEPT", "protocol": "TCP", "ports": "22", "addresses": {"ipv4": ["192.0.2.0/24"]}}
    rules = {"inbound": [rule], "inbound_policy": "DROP", "outbound_policy": "ACCEPT"}
    firewall = sdk.networking.firewall_create("demo", rules)
    policy, kind = PlacementGroupPolicy.strict, PlacementGroupType.anti_affinity_local
    group = sdk.placement.group_create("demo", "de-fra-2", kind, policy)
    options = {"firewall": firewall, "placement_group": group}
    instances = [sdk.linode.instance_create("g6-nanode-1", "de-fra-2", **options) for _ in range(2)]
    assert [item.entity.id for item in firewall.devices] == [item.id for item in instances]
    assert [item.label for item in instances[0].firewalls()] == ["demo"]
    assert instances[0].apply_firewalls()
    assert instances[0].host_uuid != instances[1].host_uuid
    group.invalidate()
    assert {member.linode_id for member in group.members} == {item.id for item in instances}
    firewall.update_rules({**rules, "inbound": []})
    assert (firewall.rules.version, firewall.rule_versions["results"]) == (2, 2)
    assert firewall.get_rule_version(1)["inbound"] == [rule]
    with pytest.raises(ApiError, match="cannot be deleted while Linodes are assigned"):
        group.delete()
    assert all(item.delete() for item in instances)
    assert len(firewall.devices) == 0 and firewall.delete() and group.delete()


def test_refusals_read_as_linodes(api: Server) -> None:
    sdk = client(api, "v4beta")
    with pytest.raises(ApiError) as refused:
        sdk.linode.instance_create("g6-fake-plan", "us-fakeregion")
    assert str(refused.value) == (
        "POST /v4beta/linode/instances: [400] type: A valid plan type by that ID was not found; "
        "region: region is not valid"
    )
    with pytest.raises(ApiError, match=r"\[401\] Invalid Token"):
        LinodeClient("wrong", base_url=f"{api.address}/v4").profile()


def test_it_waits_when_told_to(serve: Callable[..., Server], settings: Settings) -> None:
    api = serve(replace(settings, limits={"create": Limit(1, 1)}))
    sdk = client(api)
    for label in ("first", "second", "third"):
        sdk.linode.instance_create("g6-nanode-1", "us-ord", label=label)
    assert len(sdk.linode.instances()) == 3


def test_it_reads_all_pages(serve: Callable[..., Server], settings: Settings) -> None:
    api = serve(replace(settings, limits={}))
    made = {api.linode(booted=False)["id"] for _ in range(60)}
    wait_for(lambda: not api.lab.lifecycle._work)
    assert {item.id for item in client(api, page_size=25).linode.instances()} == made
