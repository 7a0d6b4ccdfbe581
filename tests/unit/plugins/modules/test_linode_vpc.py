# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.c50k.stack.plugins.module_utils import linode
from ansible_collections.c50k.stack.plugins.module_utils.linode import LinodeError
from ansible_collections.c50k.stack.plugins.modules import linode_vpc
from ansible_collections.c50k.stack.tests.unit.plugins.linode_account import Account, Fault, run, serve

DEMO = {"label": "demo", "region": "de-fra-2", "subnets": [{"label": "demo", "ipv4": "10.0.0.0/20"}]}


@pytest.fixture
def account(monkeypatch):
    monkeypatch.setattr(linode, "BACKOFF", 0.01)
    with serve(Account()) as account:
        yield account


@pytest.fixture
def vpc(account, capsys):
    return lambda **options: run(linode_vpc, account, capsys, **{**DEMO, **options})


def test_made_then_left_alone(account, vpc):
    first = vpc()
    assert first["changed"] and account.writes() == [("POST", "/vpcs")]
    assert first["vpc"]["id"] == account.vpcs[0]["id"]
    assert first["vpc"]["subnets"] == [
        {"id": account.vpcs[0]["subnets"][0]["id"], "label": "demo", "ipv4": "10.0.0.0/20"}
    ]
    assert first["diff"]["before"] == {} and first["diff"]["after"] == first["vpc"]
    account.calls.clear()
    second = vpc()
    assert not second["changed"] and second["vpc"] == first["vpc"]
    assert account.calls == [("GET", "/vpcs"), ("GET", f"/vpcs/{first['vpc']['id']}/subnets")]


def test_check_mode_tells_and_does_nothing(account, vpc):
    would = vpc(_ansible_check_mode=True)
    assert would["changed"] and account.writes() == []
    assert would["vpc"] == {
        "id": None,
        "label": "demo",
        "region": "de-fra-2",
        "description": "",
        "subnets": [{"id": None, "label": "demo", "ipv4": "10.0.0.0/20"}],
    }


def test_missing_subnet_and_description_are_added_and_others_stay(account, vpc):
    account.add_vpc("demo", subnets=(("other", "10.1.0.0/20"),))
    would = vpc(description="ours", _ansible_check_mode=True)
    assert would["changed"] and account.writes() == []
    done = vpc(description="ours")
    assert [subnet["label"] for subnet in done["vpc"]["subnets"]] == ["other", "demo"]
    assert [subnet["label"] for subnet in would["diff"]["after"]["subnets"]] == ["other", "demo"]
    assert account.vpcs[0]["description"] == would["diff"]["after"]["description"] == "ours"
    assert not vpc(description="ours")["changed"] and not vpc()["changed"]
    assert vpc(description="")["vpc"]["description"] == ""


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("status", [0, 500, 504])
def test_lost_answers_make_no_twin(account, vpc, status, done):
    account.faults = [Fault("POST", "/vpcs", status, done)]
    assert vpc()["vpc"]["id"] == account.vpcs[0]["id"]
    path = f"/vpcs/{account.vpcs[0]['id']}/subnets"
    account.faults = [Fault("POST", path, status, done)]
    vpc(subnets=[{"label": "second", "ipv4": "10.1.0.0/20"}])
    assert [(row["label"], len(row["subnets"])) for row in account.vpcs] == [("demo", 2)]
    assert account.faults == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"region": "us-east"}, "region is us-east, which does not offer VPCs. Regions that do: de-fra-2"),
        ({"region": "de-fra2"}, "region is de-fra2, which the API does not have. Near to it: de-fra-2"),
        ({"region": None}, "region is not set"),
        ({"api_token": ""}, "LINODE_TOKEN"),
        ({"api_token": "wrong"}, "refuses the token"),
    ],
)
def test_refused_before_any_write(account, vpc, options, said):
    assert said in vpc(failing=True, **options)["msg"]
    assert account.writes() == []


def test_what_cannot_change_is_refused(account, vpc):
    account.add_vpc("demo", subnets=(("demo", "10.1.0.0/20"),))
    assert "subnets asks for 10.0.0.0/20" in vpc(failing=True)["msg"]
    assert "VPC demo is in region de-fra-2, and region is gb-lon" in vpc(failing=True, region="gb-lon")["msg"]
    assert account.writes() == []


@pytest.mark.parametrize(
    ("networks", "said"),
    [
        (["10.0.0.1/20"], "host bits set"),
        (["fd00::/64"], "not a network"),
        (["192.168.128.0/20"], "has to lie in 10.0.0.0/8 or 172.16.0.0/12 or 192.168.0.0/17"),
        (["198.51.100.0/24"], "has to lie in"),
        (["10.0.0.0/20", "10.0.8.0/24"], "overlaps 10.0.0.0/20 of subnet s0"),
    ],
)
def test_ranges_are_checked(networks, said):
    with pytest.raises(LinodeError, match=said):
        linode_vpc.check_subnets([{"label": f"s{n}", "ipv4": network} for n, network in enumerate(networks)])


def test_deleted_when_empty_and_kept_when_not(account, vpc):
    held = account.add_vpc("demo", subnets=(("demo", "10.0.0.0/20"),))
    account.attach(account.add_instance("stranger", []), held, held["subnets"][0], "10.0.0.2")
    assert "still holds stranger" in vpc(failing=True, state="absent")["msg"]
    held["subnets"][0]["linodes"].clear()
    assert vpc(state="absent", _ansible_check_mode=True)["changed"] and account.writes() == []
    assert vpc(state="absent")["changed"] and account.vpcs == []
    assert not vpc(state="absent")["changed"]
