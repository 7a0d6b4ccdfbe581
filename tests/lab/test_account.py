# SPDX-License-Identifier: GPL-3.0-or-later
"""The account: its settings, its user's keys, what it may use where; and tags on every kind of thing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from lab_server import KEY, TOKEN, Server

PATH = "/linode/instances"
WISH = {"type": "g6-nanode-1", "region": "de-fra-2", "image": "linode/debian13"}


def test_settings_hold_for_what_is_made_from_now_on(serve: Callable[..., Server]) -> None:
    api = serve()
    before = api.get("/account/settings")
    assert before["interfaces_for_new_linodes"] == "legacy_config_default_but_linode_allowed"
    assert api.linode()["interface_generation"] == "legacy_config"
    wish = {"backups_enabled": True, "network_helper": False, "maintenance_policy": "linode/power_off_on"}
    changed = api.put("/account/settings", **wish, interfaces_for_new_linodes="linode_only")
    assert changed == {**before, **wish, "interfaces_for_new_linodes": "linode_only"}
    api.stop()
    api = serve()
    linode = api.linode()
    assert (linode["interface_generation"], linode["maintenance_policy"]) == ("linode", "linode/power_off_on")
    assert linode["backups"]["enabled"] is True
    config = api.get(f"{PATH}/{linode['id']}/configs")["data"][0]
    assert config["helpers"]["network"] is False
    only = {"interface_generation": "Only linode is allowed on this account"}
    assert api.refusals("POST", PATH, **WISH, authorized_keys=[KEY], interface_generation="legacy_config") == only
    api.put("/account/settings", interfaces_for_new_linodes="linode_default_but_legacy_config_allowed")
    assert api.linode(interface_generation="legacy_config")["interface_generation"] == "legacy_config"
    assert set(api.refusals("PUT", "/account/settings", interfaces_for_new_linodes="none", backups_enabled=1)) == {
        *("interfaces_for_new_linodes", "backups_enabled")
    }


def test_authorized_users_bring_their_keys(api: Server) -> None:
    assert api.refusals("POST", PATH, **WISH, authorized_users=["lab"]) == {
        "authorized_users[0]": "User lab has no SSH keys"
    }
    key = api.post("/profile/sshkeys", label="mine", ssh_key=f"{KEY}\n")
    assert (key["label"], key["ssh_key"]) == ("mine", KEY)
    linode = api.post(PATH, **WISH, authorized_users=["lab"])["id"]
    api.settled(linode, "running")
    assert api.hosts.hosts[linode].authorized_keys == (KEY,)
    assert api.put(f"/profile/sshkeys/{key['id']}", label="renamed")["label"] == "renamed"
    assert api.get("/account/users/lab")["ssh_keys"] == ["renamed"]
    assert api.refusals("POST", "/profile/sshkeys", ssh_key="ssh-rsa no") == {
        **{"label": "label is required", "ssh_key": "SSH Key is not a public key in OpenSSH's format"}
    }
    api.delete(f"/profile/sshkeys/{key['id']}")
    assert api.get("/profile/sshkeys")["results"] == 0
    assert api.http.get("/account/users/nobody").status_code == 404


def test_who_and_where(shared: Server) -> None:
    account = shared.get("/account")
    assert account["email"] == shared.get("/profile")["email"] == shared.get("/account/users")["data"][0]["email"]
    assert {"Linodes", "VPCs", "Block Storage"} <= set(account["capabilities"])
    rows = {row["region"]: row for row in shared.get("/account/availability")["data"]}
    assert rows["us-east"] == shared.get("/account/availability/us-east")
    assert "Linodes" in rows["us-east"]["available"] and len(rows) == len(shared.get("/regions")["data"])
    (token,) = shared.get("/profile/tokens")["data"]
    assert token["token"] == TOKEN[:16]
    assert [shared.get(f"/account/{kind}")["results"] for kind in ("invoices", "payments")] == [0, 0]
    policies = shared.get("/maintenance/policies")["data"]
    assert [(row["slug"], row["is_default"]) for row in policies] == [
        *(("linode/migrate", True), ("linode/power_off_on", False))
    ]


@pytest.mark.parametrize("kind", ["linodes", "domains", "volumes", "reserved_ipv4_addresses"])
def test_tags_on_everything(api: Server, kind: str) -> None:
    made: dict[str, Callable[[], tuple[str, Any]]] = {
        "linodes": lambda: (PATH, api.linode()["id"]),
        "domains": lambda: ("/domains", api.post("/domains", domain="a.org", type="master", soa_email="a@a.org")["id"]),
        "volumes": lambda: ("/volumes", api.post("/volumes", label="v", region="de-fra-2")["id"]),
        "reserved_ipv4_addresses": lambda: (
            *("/networking/reserved/ips",),
            api.post("/networking/reserved/ips", region="de-fra-2")["address"],
        ),
    }
    path, name = made[kind]()
    api.post("/tags", label="blue", **{kind: [name]})
    assert api.get(f"{path}/{name}")["tags"] == ["blue"]
    (found,) = api.get("/tags/blue")["data"]
    assert found["data"] == api.get(f"{path}/{name}")
    assert found["type"] in kind
    api.delete("/tags/blue")
    assert api.get(f"{path}/{name}")["tags"] == []
    unknown = "192.0.2.1" if kind == "reserved_ipv4_addresses" else 7
    assert set(api.refusals("POST", "/tags", label="blue", **{kind: [unknown]})) == {kind}
