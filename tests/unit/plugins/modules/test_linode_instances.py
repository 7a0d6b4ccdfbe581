# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.c50k.stack.plugins.module_utils import linode
from ansible_collections.c50k.stack.plugins.modules import linode_instances
from ansible_collections.c50k.stack.plugins.modules.linode_instances import Account as LinodeAccount
from ansible_collections.c50k.stack.plugins.modules.linode_instances import check, request_body
from ansible_collections.c50k.stack.tests.unit.plugins.linode_account import Account, Fault, run, serve

PATH = "/linode/instances"


def want(number=1, **values):
    return {
        "label": f"demo-app_server-{number}",
        "tags": ["demo", "app_server"],
        "region": "de-fra-2",
        "type": "g6-nanode-1",
        "image": "linode/debian13",
        "authorized_keys": ["ssh-ed25519 AAAA\n"],
        "vpc": "demo",
        "vpc_address": f"10.0.2.{number + 9}",
    } | values


def parsed(**values):
    """An instance as the module gets it, with every suboption."""
    unset = ("owner_tags", "subnet", "firewall", "placement_group", "user_data")
    return {**dict.fromkeys(unset), "backups": False, **want(**values)}


@pytest.fixture
def empty(monkeypatch):
    monkeypatch.setattr(linode, "BACKOFF", 0.01)
    monkeypatch.setattr(linode_instances, "POLL_INTERVAL", 0.01)
    with serve(Account()) as account:
        yield account


@pytest.fixture
def account(empty):
    empty.add_vpc("demo", subnets=(("demo", "10.0.0.0/20"),))
    return empty


@pytest.fixture
def fleet(empty, capsys):
    """Run the module for these instances."""

    def fleet(*instances, **options):
        return run(linode_instances, empty, capsys, instances=list(instances), **{"timeout": 10, **options})

    return fleet


def exists(account, number=1, **values):
    """What the module makes of want(number)."""
    wanted = want(number)
    instance = account.add_instance(wanted["label"], wanted["tags"], **values)
    account.attach(instance, account.vpcs[0], account.vpcs[0]["subnets"][0], wanted["vpc_address"])
    return instance


def test_made_side_by_side_awaited_together_then_left_alone(account, fleet):
    wanted = [want(number) for number in range(1, 6)]
    first = fleet(*wanted)
    labels = [instance["label"] for instance in wanted]
    assert first["changed"] and first["created"] == labels
    assert [(row["label"], row["status"]) for row in first["instances"]] == [(label, "running") for label in labels]
    assert account.writes() == [("POST", PATH)] * 5
    assert [row["address"] for row in sorted(account.vpc_ips, key=lambda row: row["address"])] == [
        "10.0.2.10", "10.0.2.11", "10.0.2.12", "10.0.2.13", "10.0.2.14"
    ]  # fmt: skip
    assert account.calls.count(("GET", PATH)) < 6, "waiting is one listing for all, not one for each"
    account.calls.clear()
    second = fleet(*wanted)
    assert not second["changed"] and second["instances"] == first["instances"]
    assert account.calls == [("GET", PATH), ("GET", "/vpcs"), ("GET", "/vpcs/ips")]


def test_request_is_explicit_about_interfaces():
    body = request_body(parsed(), {"id": 7}, LinodeAccount({}))
    assert body["interface_generation"] == "linode"
    assert body["interfaces"] == [
        {"public": {}},
        {"vpc": {"subnet_id": 7, "ipv4": {"addresses": [{"address": "10.0.2.10", "primary": True}]}}},
    ]
    assert body["authorized_keys"] == ["ssh-ed25519 AAAA"]
    assert not {"placement_group", "backups_enabled"} & set(body)
    anywhere = request_body(parsed(vpc_address=None), {"id": 7}, LinodeAccount({}))
    assert anywhere["interfaces"][1]["vpc"]["ipv4"]["addresses"] == [{"address": "auto", "primary": True}]
    assert request_body(parsed(), None, LinodeAccount({}))["interfaces"] == [{"public": {}}]


def test_a_new_instance_is_never_without_its_firewall_and_group():
    account = LinodeAccount({}, firewalls={"demo-app": {"id": 3}}, placement_groups={"demo-app": {"id": 4}})
    body = request_body(parsed(firewall="demo-app", placement_group="demo-app", backups=True), {"id": 7}, account)
    assert [interface["firewall_id"] for interface in body["interfaces"]] == [3, 3]
    assert (body["placement_group"], body["backups_enabled"]) == ({"id": 4}, True)


def test_user_data_is_sent_in_base64_and_shown_nowhere(account, fleet):
    text = "#cloud-config\nruncmd: [[echo, hünter2]]\n"
    for none in (None, ""):
        assert "metadata" not in request_body(parsed(user_data=none), None, LinodeAccount({}))
    encoded = "I2Nsb3VkLWNvbmZpZwpydW5jbWQ6IFtbZWNobywgaMO8bnRlcjJdXQo="
    assert request_body(parsed(user_data=text), None, LinodeAccount({}))["metadata"] == {"user_data": encoded}
    would = fleet(want(user_data=text), _ansible_check_mode=True, _ansible_diff=True)
    made = fleet(want(user_data=text), _ansible_diff=True)
    assert account.user_data == {"demo-app_server-1": encoded}
    for result in (would, made):
        assert result["created"] == ["demo-app_server-1"]
        assert "nter2" not in str(result) and encoded not in str(result)
    assert not fleet(want(user_data="#!/bin/sh\nanother\n"))["changed"], "that of an existing instance stays"


def test_check_mode_on_an_empty_account_says_what_would_be_made(empty, fleet):
    would = fleet(want(1), want(2), _ansible_check_mode=True)
    assert would["changed"] and would["created"] == ["demo-app_server-1", "demo-app_server-2"]
    assert would["diff"]["before"] == {} and would["diff"]["after"]["demo-app_server-1"]["type"] == "g6-nanode-1"
    assert empty.writes() == []


def test_without_its_vpc_nothing_is_made(empty, fleet):
    assert "vpc of demo-app_server-1 is demo, which the account does not have" in fleet(want(), failing=True)["msg"]
    empty.add_vpc("demo")
    assert "subnet of demo-app_server-1 is demo" in fleet(want(), failing=True)["msg"]
    assert empty.writes() == []


def test_half_made_fleet_is_completed(account, fleet):
    exists(account, 1)
    exists(account, 2, status="provisioning")
    down = exists(account, 3, status="offline")
    wanted = [want(number) for number in range(1, 5)]
    account.calls.clear()
    would = fleet(*wanted, _ansible_check_mode=True)
    assert account.writes() == []
    done = fleet(*wanted)
    for result in (would, done):
        assert result["created"] == ["demo-app_server-4"] and result["booted"] == ["demo-app_server-3"]
    assert account.writes() == [("POST", PATH), ("POST", f"{PATH}/{down['id']}/boot")]
    assert {row["status"] for row in done["instances"]} == {"running"}
    assert not fleet(*wanted)["changed"]


def test_waiting_for_what_boots_is_no_change(account, fleet):
    exists(account, status="booting")
    assert not fleet(want())["changed"]
    assert account.writes() == []


def test_boot_refused_as_busy_is_asked_again(account, fleet):
    row = exists(account, status="offline")
    account.faults = [Fault("POST", f"{PATH}/{row['id']}/boot", 400)]
    assert fleet(want())["booted"] == ["demo-app_server-1"]


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("status", [0, 408, 500, 504])
def test_lost_answers_make_no_twin(account, fleet, status, done):
    account.faults = [Fault("POST", PATH, status, done) for attempt in range(3)]
    wanted = [want(number) for number in range(1, 6)]
    result = fleet(*wanted)
    assert result["created"] == [instance["label"] for instance in wanted]
    assert sorted(account.labels()) == result["created"]


def test_rate_of_creates_is_kept(account, fleet, monkeypatch):
    monkeypatch.setattr(linode_instances, "CREATE_RATE", (4, 0.5))
    fleet(*(want(number) for number in range(1, 11)))
    times = account.times[f"POST {PATH}"]
    assert len(times) == 10
    # The server sees them a little later than they were let go.
    assert all(later - earlier > 0.25 for earlier, later in zip(times, times[4:], strict=False))


def test_first_refused_create_stops_the_rest_and_the_next_run_completes(account, fleet, monkeypatch):
    monkeypatch.setattr(linode_instances, "WORKERS", 1)
    account.faults = [Fault("POST", PATH, 403)]
    wanted = [want(number) for number in range(1, 4)]
    failed = fleet(*wanted, failing=True)
    assert "3 of 3 instances were not made. demo-app_server-1: POST" in failed["msg"] and "ordered" in failed["msg"]
    assert account.writes() == [("POST", PATH)]
    assert fleet(*wanted)["created"] == [instance["label"] for instance in wanted]


def test_partly_made_says_what_was_made(account, fleet, monkeypatch):
    monkeypatch.setattr(linode_instances, "WORKERS", 1)
    account.add_instance("demo-app_server-2", ["demo"])
    monkeypatch.setattr(
        linode_instances, "read_account", lambda api, instances: linode_instances.Account({}, {"demo": account.vpcs[0]})
    )
    failed = fleet(want(1), want(2), want(3), failing=True)
    assert failed["created"] == ["demo-app_server-1"] and failed["changed"]
    assert "taken for somebody else's" in failed["msg"]


def test_label_taken_by_a_stranger_is_refused(account, fleet):
    account.add_instance("demo-app_server-2", ["app_server", "theirs"])
    for options in ({}, {"state": "absent"}):
        failed = fleet(want(1), want(2), failing=True, **options)
        assert "demo-app_server-2 is the label of instance" in failed["msg"]
        assert "app_server, theirs" in failed["msg"] and "demo, app_server" in failed["msg"]
    assert account.writes() == []


def test_missing_tag_is_added_and_others_stay(account, fleet):
    exists(account)["tags"] = ["demo", "app_server", "by-hand"]
    wanted = want(tags=["demo", "app_server", "team-x"], owner_tags=["demo", "app_server"])
    would = fleet(wanted, _ansible_check_mode=True)
    assert account.writes() == []
    done = fleet(wanted)
    assert would["tagged"] == done["tagged"] == ["demo-app_server-1"]
    assert sorted(account.instances[0]["tags"]) == ["app_server", "by-hand", "demo", "team-x"]
    assert done["instances"][0]["tags"] == would["diff"]["after"]["demo-app_server-1"]["tags"]
    assert not fleet(wanted)["changed"]


def test_another_type_image_region_or_address_is_named_and_nothing_changed(account, fleet):
    exists(account, 1, status="offline")
    said = fleet(
        want(1, type="g6-dedicated-4", image="private/1", region="gb-lon", vpc_address="10.0.2.99"),
        want(2),
        failing=True,
    )["msg"]
    assert "type of demo-app_server-1 is g6-nanode-1, wanted is g6-dedicated-4" in said
    assert "image of demo-app_server-1 is linode/debian13, wanted is private/1" in said
    assert "region of demo-app_server-1 is de-fra-2, wanted is gb-lon" in said
    assert "vpc_address of demo-app_server-1 is 10.0.2.10, wanted is 10.0.2.99" in said
    assert account.writes() == []


def test_existing_instance_outside_the_vpc_is_named(account, fleet):
    account.add_instance("demo-app_server-1", ["demo", "app_server"])
    assert "demo-app_server-1 has no address in VPC demo" in fleet(want(), failing=True)["msg"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"type": "g6-nanode"}, "type of demo-app_server-1 is g6-nanode, which the API does not have: g6-nanode-1"),
        ({"image": "linode/debian12"}, "image of demo-app_server-1 is linode/debian12, which the API does not have"),
        ({"region": "de-fra"}, "region of demo-app_server-1 is de-fra, which the API does not have: de-fra-2"),
        ({"region": "us-east"}, "its VPC demo is in de-fra-2"),
        ({"subnet": "other"}, "subnet of demo-app_server-1 is other, which VPC demo does not have: demo"),
        ({"vpc_address": "10.9.0.9"}, "allowed in subnet demo (10.0.0.0/20) is 10.0.0.2 to 10.0.15.254"),
        ({"vpc_address": "10.0.0.1"}, "allowed in subnet demo"),
        ({"vpc_address": "10.0.2.20"}, "which bastion has already"),
    ],
)
def test_what_the_account_cannot_do_is_refused_before_any_write(account, fleet, values, said):
    bastion = account.add_instance("bastion", ["other"])
    account.attach(bastion, account.vpcs[0], account.vpcs[0]["subnets"][0], "10.0.2.20")
    assert said in fleet(want(**values), want(2), failing=True)["msg"]
    if "subnet" not in values:  # which may be about to be made
        assert said in fleet(want(**values), want(2), failing=True, _ansible_check_mode=True)["msg"]
    assert account.writes() == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"label": "a b c"}, "label is 'a b c': allowed are"),
        ({"label": "demo--1"}, "label is 'demo--1'"),
        ({"label": "demo-"}, "label is 'demo-'"),
        ({"tags": ["demo", "app server"]}, "has 'app server': allowed are 3 to 50"),
        ({"tags": ["demo", "ab"]}, "has 'ab'"),
        ({"tags": []}, "tags of demo-app_server-1 is empty"),
        ({"owner_tags": ["else"]}, "owner_tags of demo-app_server-1 is ['else']"),
        ({"type": None}, "type of demo-app_server-1 is not set"),
        ({"authorized_keys": []}, "authorized_keys of demo-app_server-1 is not set"),
        ({"vpc_address": "10.0.2"}, "vpc_address of demo-app_server-1 is '10.0.2'"),
        ({"vpc": None}, "but its vpc is not set"),
        ({"user_data": "ü" * 8193}, "user_data of demo-app_server-1 has 16386 bytes: allowed are 16384"),
    ],
)
def test_bad_options_are_named(values, said):
    (wrong,) = check([parsed(**values)], "present")
    assert wrong.startswith("instances[0].") and said in wrong


def test_good_options_pass_and_doubles_do_not():
    assert check([parsed(number=1), parsed(number=2, user_data="ü" * 8192)], "present") == []
    both = check([parsed(), parsed()], "present")
    assert len(both) == 2 and all("there twice" in wrong for wrong in both)
    assert check([{**dict.fromkeys(parsed()), "label": "demo-1", "tags": ["demo"]}], "absent") == []


@pytest.mark.parametrize("done", [True, False])
def test_boot_whose_answer_is_lost_is_told_and_asked_again_if_needed(account, fleet, monkeypatch, done):
    monkeypatch.setattr(linode_instances, "BOOT_AGAIN", 0.05)
    row = exists(account, status="offline")
    account.faults = [Fault("POST", f"{PATH}/{row['id']}/boot", 0, done)]
    result = fleet(want())
    assert result["booted"] == ["demo-app_server-1"] and result["instances"][0]["status"] == "running"
    assert len(account.writes()) == (1 if done else 2)


def test_boot_that_does_not_help_is_still_told(account, fleet):
    row = exists(account, status="offline")
    account.after_page = lambda account, path, page: row.update(status="offline")
    failed = fleet(want(), timeout=0, failing=True)
    assert "demo-app_server-1 is offline" in failed["msg"] and not failed["changed"]
    failed = fleet(want(), timeout=1, failing=True)
    assert failed["booted"] == ["demo-app_server-1"] and failed["changed"]
    assert len(account.writes()) == 1, "no hammering"


def test_timeout_names_who_does_not_run(account, fleet):
    account.stuck = {"demo-app_server-2"}
    failed = fleet(want(1), want(2), timeout=0, failing=True)
    assert "demo-app_server-2 is provisioning" in failed["msg"] and "after 0 s (timeout)" in failed["msg"]
    assert failed["created"] == ["demo-app_server-1", "demo-app_server-2"]
    account.stuck.clear()
    assert fleet(want(1), want(2))["created"] == []


def test_instance_deleted_by_hand_while_waiting_is_named(account, fleet):
    def delete(account, path, page):
        if path == PATH and ("POST", PATH) in account.calls:
            account.instances.clear()

    account.after_page = delete
    assert "demo-app_server-1 is gone" in fleet(want(), timeout=1, failing=True)["msg"]


def test_absent_deletes_ours_only(account, fleet):
    exists(account, 1)
    account.add_instance("demo-app_server-9", ["demo", "app_server"])
    gone = [{"label": label, "tags": ["demo", "app_server"]} for label in ("demo-app_server-1", "demo-app_server-2")]
    assert fleet(*gone, state="absent", _ansible_check_mode=True)["deleted"] == ["demo-app_server-1"]
    assert account.writes() == []
    assert fleet(*gone, state="absent")["deleted"] == ["demo-app_server-1"]
    assert account.labels() == ["demo-app_server-9"]
    assert not fleet(*gone, state="absent")["changed"]


def test_what_cannot_be_deleted_is_named_and_the_others_go(account, fleet):
    locked = exists(account, 1)
    exists(account, 2)
    account.faults = [Fault("DELETE", f"{PATH}/{locked['id']}", 403)]
    failed = fleet(want(1), want(2), state="absent", failing=True)
    assert failed["deleted"] == ["demo-app_server-2"]
    assert "1 of 2 instances were not deleted. demo-app_server-1: DELETE" in failed["msg"]
    assert account.labels() == ["demo-app_server-1"]


def test_no_instances_is_no_call(empty, fleet):
    assert not fleet()["changed"]
    assert empty.calls == []


@pytest.mark.parametrize(("token", "said"), [("", "LINODE_TOKEN"), ("wrong", "refuses the token")])
def test_token(account, fleet, token, said):
    assert said in fleet(want(), api_token=token, failing=True)["msg"]
