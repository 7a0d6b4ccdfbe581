# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import inventory_loader
from ansible.template import Templar
from ansible.utils.display import Display
from ansible_collections.c50k.stack.plugins.inventory.linode import NoAddress, build_host
from ansible_collections.c50k.stack.tests.unit.plugins.linode_account import TOKEN, Account, Fault, serve

INSTANCE = {
    "id": 7,
    "label": "demo-app_server-1",
    "status": "running",
    "region": "de-fra-2",
    "type": "g6-nanode-1",
    "image": None,
    "tags": ["demo", "app_server"],
    "specs": {"vcpus": 1, "memory": 1024},
    "ipv4": ["192.168.129.7", "198.51.100.7"],
    "ipv6": "2001:db8::7/128",
    "placement_group": None,
    "interface_generation": "legacy_config",
}
IN_DEMO = {"vpc_id": 1, "subnet_id": 2, "address": "10.0.2.10", "nat_1_1": None}
IN_OTHER = {"vpc_id": 9, "subnet_id": 8, "address": "10.9.0.2", "nat_1_1": None}


@pytest.mark.parametrize(
    ("connect_with", "address"),
    [
        ("public", "198.51.100.7"),
        ("private", "192.168.129.7"),
        ("ipv6", "2001:db8::7"),
        ("vpc", "10.0.2.10"),
        ("label", "demo-app_server-1"),
    ],
)
def test_address_by_connect_with(connect_with, address):
    assert build_host(INSTANCE, [IN_DEMO], connect_with, None)["ansible_host"] == address


def test_variables_are_complete_and_those_without_value_are_not_set():
    assert build_host(INSTANCE, [IN_DEMO], "public", None) == {
        "id": 7,
        "label": "demo-app_server-1",
        "status": "running",
        "region": "de-fra-2",
        "type": "g6-nanode-1",
        "tags": ["demo", "app_server"],
        "specs": {"vcpus": 1, "memory": 1024},
        "interface_generation": "legacy_config",
        "ipv4": "198.51.100.7",
        "private_ipv4": "192.168.129.7",
        "ipv6": "2001:db8::7",
        "vpc_ipv4": "10.0.2.10",
        "vpc_ips": [IN_DEMO],
        "ansible_host": "198.51.100.7",
    }


def test_of_several_vpcs_one_has_to_be_chosen():
    both = [IN_DEMO, IN_OTHER]
    assert "vpc_ipv4" not in build_host(INSTANCE, both, "public", None)
    with pytest.raises(NoAddress, match=r"several VPCs \(1, 9\): set vpc"):
        build_host(INSTANCE, both, "vpc", None)


@pytest.mark.parametrize(
    ("connect_with", "vpc", "wanted"),
    [("public", None, "public address"), ("vpc", None, "vpc address"), ("vpc", "x", "address in VPC x")],
)
def test_missing_address_says_what_there_is(connect_with, vpc, wanted):
    bare = {**INSTANCE, "ipv4": [], "ipv6": None}
    with pytest.raises(NoAddress, match=f"no {wanted}, only label demo-app_server-1"):
        build_host(bare, [], connect_with, vpc)


@pytest.fixture
def account(monkeypatch):
    monkeypatch.setenv("LINODE_TOKEN", TOKEN)
    with serve(Account()) as account:
        monkeypatch.setenv("LINODE_API_URL", account.url)
        yield account


@pytest.fixture
def warnings(monkeypatch):
    seen: list[str] = []
    monkeypatch.setattr(Display, "warning", lambda self, message, *args, **kwargs: seen.append(message))
    return seen


@pytest.fixture
def read(tmp_path):
    """Reads the account with the options given, as Ansible does."""

    def read(fresh=False, **options):
        path = tmp_path / "demo.linode.yml"
        path.write_text(yaml.safe_dump({"plugin": "c50k.stack.linode", **options}))
        manager = InventoryManager(loader=DataLoader(), sources=None, parse=False)
        plugin = inventory_loader.get("c50k.stack.linode")
        assert plugin.verify_file(str(path))
        plugin.parse(manager._inventory, manager._loader, str(path), cache=not fresh)
        if plugin.get_option("cache"):
            plugin.update_cache_if_changed()
        manager._inventory.reconcile_inventory()
        return manager

    return read


@pytest.mark.parametrize(
    ("name", "mine"), [("linode.yml", True), ("demo.linode.yaml", True), ("linode.json", False), ("hosts.yml", False)]
)
def test_file_name(tmp_path, name, mine):
    (tmp_path / name).touch()
    assert inventory_loader.get("c50k.stack.linode").verify_file(str(tmp_path / name)) is mine


def test_groups_from_tags_and_calls(account, read):
    vpc = account.add_vpc("demo", subnets=(("demo", "10.0.0.0/20"),))
    for number in range(3):
        row = account.add_instance(f"demo-app_server-{number}", ["demo", "app_server", "cost-center.7"])
        account.attach(row, vpc, vpc["subnets"][0], f"10.0.2.{10 + number}")
    manager = read(compose={"stack_address": "linode_vpc_ipv4"})
    assert [host.name for host in manager.list_hosts("app_server")] == account.labels()
    assert set(manager.groups) >= {"demo", "app_server", "cost_center_7"}
    hostvars = manager.get_host("demo-app_server-1").vars
    assert hostvars["stack_address"] == "10.0.2.11"
    assert hostvars["ansible_host"] == account.instances[1]["ipv4"][0]
    assert sorted(account.calls) == [("GET", "/linode/instances"), ("GET", "/vpcs/ips")]


def test_of_a_vpc_by_label_only_its_addresses_are_asked_for(account, read, warnings):
    row = account.add_instance("demo-1", ["demo"])
    for name, network in (("demo", "10.0.0.0/20"), ("other", "10.9.0.0/20")):
        vpc = account.add_vpc(name, subnets=((name, network),))
        account.attach(row, vpc, vpc["subnets"][0], network.replace("0/20", "10"))
    assert read(vpc="demo", connect_with="vpc").get_host("demo-1").vars["ansible_host"] == "10.0.0.10"
    assert read(vpc="other", connect_with="vpc").get_host("demo-1").vars["ansible_host"] == "10.9.0.10"
    assert ("GET", "/vpcs/ips") not in account.calls
    assert read(vpc="nowhere", connect_with="vpc").list_hosts() == []
    assert "no address in VPC nowhere" in warnings[0]


def test_an_empty_account_is_empty_or_refused(account, read):
    assert read().list_hosts() == []
    with pytest.raises(AnsibleError, match="found no host.*require_hosts"):
        read(require_hosts=True)
    account.add_instance("a", ["demo"])
    assert len(read(require_hosts=True).list_hosts()) == 1


def test_a_group_of_all(account, read):
    account.add_instance("a", ["demo"])
    assert [host.name for host in read(group="every-one").groups["every_one"].hosts] == ["a"]


def test_several_accounts(account, read, monkeypatch, warnings):
    account.add_instance("same", ["demo"])
    account.add_instance("one", ["demo"])
    monkeypatch.delenv("LINODE_TOKEN")
    with serve(Account()) as second:
        second.add_instance("same", ["demo"], region="us-east")
        accounts = [
            {"name": "first", "api_token": "{{ '" + TOKEN + "' }}"},
            {"name": "second", "api_token": TOKEN, "api_url": second.url},
        ]
        manager = read(accounts=accounts)
        assert manager.get_host("same").vars["linode_account"] == "first"
        assert "Linode same is left out" in warnings[0]
        named = read(
            accounts=accounts,
            hostname="{{ linode_account }}-{{ linode_label }}",
            keyed_groups=[{"key": "linode_account"}],
        )
        assert [host.name for host in named.list_hosts()] == ["first-one", "first-same", "second-same"]
        assert [host.name for host in named.list_hosts("_second")] == ["second-same"]
    with pytest.raises(AnsibleError, match="no answer"):
        read(accounts=accounts)


def test_calls_grow_with_pages_only(account, read):
    vpc = account.add_vpc("demo", subnets=(("demo", "10.0.0.0/16"),))
    for number in range(1200):
        row = account.add_instance(f"demo-{number}", ["demo"])
        account.attach(row, vpc, vpc["subnets"][0], f"10.0.{number % 250}.9")
    assert len(read().list_hosts()) == 1200
    assert len(account.calls) == 3 + 3


def test_hosts_are_in_the_order_of_their_numbers(account, read):
    for label in ("demo-10", "demo-9", "1st", "demo-2", "demo"):
        account.add_instance(label, ["demo"])
    names = [host.name for host in read().groups["demo"].hosts]
    assert names == ["1st", "demo", "demo-2", "demo-9", "demo-10"]


def test_a_label_that_is_a_tag_too_is_a_host_in_a_group(account, read):
    account.add_instance("demo", ["demo", "app_server"])
    manager = read()
    assert [host.name for host in manager.groups["demo"].hosts] == ["demo"]
    assert [host.name for host in manager.groups["app_server"].hosts] == ["demo"]


def test_filters(account, read):
    account.add_instance("a", ["demo", "app_server"])
    account.add_instance("b", ["demo"], region="us-east", image="private/1")
    account.add_instance("c", ["demo"], status="booting", type="g6-dedicated-4")
    account.stuck.add("c")

    def names(**options):
        return [host.name for host in read(**options).list_hosts()]

    assert names() == ["a", "b", "c"]
    assert names(tags=["demo", "app_server"]) == ["a"]
    assert names(tags=["app"]) == []
    assert names(exclude_tags=["app_server", "other"]) == ["b", "c"]
    assert names(images=["private/1", "linode/debian13"]) == ["a", "b", "c"]
    assert names(images=["private/1"]) == ["b"]
    assert names(regions=["us-east", "gb-lon"]) == ["b"]
    assert names(types=["g6-dedicated-4"]) == ["c"]
    assert names(status=["running"]) == ["a", "b"]
    assert names(tags=["demo"], regions=["de-fra-2"], status=["booting"]) == ["c"]


def test_host_without_address_is_reported_and_left_out(account, read, warnings):
    account.add_instance("inside", ["demo"], ipv4=[])
    account.add_instance("outside", ["demo"])
    assert [host.name for host in read().list_hosts()] == ["outside"]
    assert len(warnings) == 1 and "Linode inside is left out" in warnings[0] and "no public address" in warnings[0]


def test_prefix_suffix_hostname_and_constructed(account, read):
    account.add_instance("demo-1", ["demo"])
    manager = read(
        hostname="{{ my_label_x }}.{{ my_region_x }}",
        hostvars_prefix="my_",
        hostvars_suffix="_x",
        compose={"place": "my_region_x | replace('-', '_')"},
        groups={"frankfurt": "place == 'de_fra_2'"},
        keyed_groups=[{"key": "place", "prefix": "region"}],
    )
    assert [host.name for host in manager.list_hosts("frankfurt")] == ["demo-1.de-fra-2"]
    assert "region_de_fra_2" in manager.groups
    hostvars = manager.get_host("demo-1.de-fra-2").vars
    assert hostvars["my_label_x"] == "demo-1" and "ansible_host" in hostvars
    assert not [name for name in hostvars if name.startswith("linode_")]


def test_two_instances_with_one_hostname_do_not_merge(account, read, warnings):
    first = account.add_instance("a", ["red"])
    account.add_instance("b", ["blue"])
    manager = read(hostname="{{ linode_region }}")
    assert manager.get_host("de-fra-2").vars["linode_id"] == first["id"]
    assert "blue" not in manager.groups
    assert "Linode b is left out" in warnings[0]


def test_strict_makes_a_broken_expression_fail(account, read):
    account.add_instance("a", ["red"])
    read(compose={"x": "no_such_variable"})
    with pytest.raises(AnsibleError, match="no_such_variable"):
        read(compose={"x": "no_such_variable"}, strict=True)


def test_what_the_api_says_is_never_a_template(account, read):
    evil = "{{ 7*7 }}"
    account.add_instance(evil, [evil, "demo"], region=evil, specs={evil: evil})
    manager = read(
        hostname="host-{{ linode_label }}",
        compose={"copied": "linode_tags", "joined": "linode_region ~ '!'"},
        keyed_groups=[{"key": "linode_region", "prefix": "region"}],
    )
    assert [host.name for host in manager.list_hosts("demo")] == [f"host-{evil}"]
    assert not [name for name in manager.groups if "49" in name]
    hostvars = manager.get_host(f"host-{evil}").vars
    shown = Templar(loader=DataLoader(), variables=hostvars)
    assert shown.template(hostvars["linode_tags"]) == [evil, "demo"]
    assert shown.template(hostvars["linode_specs"]) == {evil: evil}
    assert shown.template(hostvars["copied"]) == [evil, "demo"]
    assert shown.template(hostvars["joined"]) == f"{evil}!"
    assert shown.template(hostvars["linode_label"]) == evil


def test_cached_strings_are_no_templates_either(account, read, tmp_path):
    account.add_instance("a", ["{{ 7*7 }}"])
    for source in ("fetched", "cached"):
        manager = read(cache=True, cache_plugin="jsonfile", cache_connection=str(tmp_path / "cache"))
        hostvars = manager.get_host("a").vars
        assert bool(account.calls) is (source == "fetched")
        account.calls.clear()
        assert Templar(loader=DataLoader(), variables=hostvars).template(hostvars["linode_tags"]) == ["{{ 7*7 }}"]


def test_cache(account, read, tmp_path, monkeypatch):
    account.add_instance("a", ["demo"])
    cache = {"cache": True, "cache_plugin": "jsonfile", "cache_connection": str(tmp_path / "cache")}

    def names(**options):
        """The hosts, and whether the API was asked for them."""
        account.calls.clear()
        return [host.name for host in read(**cache, **options).list_hosts()], bool(account.calls)

    assert names() == (["a"], True)
    account.add_instance("b", ["demo"])
    assert names() == (["a"], False)
    assert names(connect_with="label", hostvars_prefix="") == (["a"], False)
    assert names(tags=["demo"]) == (["a", "b"], True), "another filter is another entry"
    assert names(fresh=True) == (["a", "b"], True), "a refresh goes past the cache"
    assert names() == (["a", "b"], False), "and renews it"
    monkeypatch.setenv("LINODE_TOKEN", "wrong")
    with pytest.raises(AnsibleError, match="refuses the token"):
        names()


def test_token_and_url_from_templates(account, read, tmp_path, monkeypatch):
    account.add_instance("a", ["demo"])
    monkeypatch.delenv("LINODE_API_URL")
    monkeypatch.delenv("LINODE_TOKEN")
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    token = f"{{{{ lookup('ansible.builtin.file', '{tmp_path}/token') }}}}"
    url = "{{ '" + account.url + "' | replace('/v4', '') }}/v4/"
    assert [host.name for host in read(api_token=token, api_url=url).list_hosts()] == ["a"]


def test_missing_token_is_named(account, read, monkeypatch):
    monkeypatch.delenv("LINODE_TOKEN")
    with pytest.raises(AnsibleError, match="LINODE_TOKEN"):
        read()


def test_an_api_that_fails_makes_the_command_fail(account, tmp_path):
    account.add_instance("a", ["demo"])
    (tmp_path / "linode.yml").write_text("plugin: c50k.stack.linode\napi_timeout: 5\n")
    command = [Path(sys.executable).with_name("ansible-inventory"), "-i", tmp_path / "linode.yml", "--list"]
    environment = {**os.environ, "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true"}

    def run():
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    good = run()
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["demo"]["hosts"] == ["a"]
    assert "[WARNING]" not in good.stderr
    account.faults = [Fault("GET", "/linode/instances", 403)]
    bad = run()
    assert bad.returncode != 0
    assert "cannot read the account" in bad.stderr and "[403] ordered" in bad.stderr
