# SPDX-License-Identifier: GPL-3.0-or-later
"""The page, in a real browser."""

from __future__ import annotations

from collections.abc import Callable

import httpx
from lab_server import TOKEN, Server, wait_for
from selenium.webdriver import Chrome

from lab.balancers import NoBalancers
from lab.haproxy import Balancer
from lab.models import Firewall, NodeBalancer, Vpc

SCRIPT = "<img src=x onerror=document.title='taken'>"


def text(browser: Chrome, selector: str = "body") -> str:
    return str(browser.execute_script("return document.querySelector(arguments[0])?.innerText ?? ''", selector))


def check_that_it_is_text(browser: Chrome, *selectors: str) -> None:
    """A label that would be a script is shown in those places, does nothing, and a narrow window holds the page."""
    wait_for(lambda: all(SCRIPT in text(browser, selector) for selector in selectors))
    assert browser.title == "The lab"
    browser.set_window_size(400, 800)
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.get_log("browser") == []


def test_the_fleet_is_shown_as_it_changes(api: Server, browser: Chrome) -> None:
    linodes = [api.linode(label=f"demo-redis-{number}", tags=["demo", "redis"])["id"] for number in (1, 2)]
    for linode in linodes:
        api.settled(linode, "running")
    browser.get(f"{api.address}/#{TOKEN}")
    wait_for(lambda: "2 of 2 Linodes run" in text(browser))
    assert text(browser, "h2") == "demo" and text(browser, "h3") == "redis · 2"
    assert all(part in text(browser, ".card.running") for part in ("demo-redis-1", "198.51.100.", "g6-nanode-1"))

    api.post(f"/linode/instances/{linodes[0]}/shutdown")
    wait_for(lambda: "1 of 2 Linodes run" in text(browser) and "demo-redis-1" in text(browser, ".card.offline"))
    assert "linode shutdown · demo-redis-1" in text(browser, "#events")
    api.http.post(f"{api.address}/lab/faults", json={"kind": "busy", "count": 3})
    wait_for(lambda: "busy: 3 ×" in text(browser, "#faults"))

    api.post("/vpcs", label="plain", region="de-fra-2")
    api.lab.store.all(Vpc)[0].label = SCRIPT
    check_that_it_is_text(browser, "#records")


def test_firewalls_are_shown_in_words(api: Server, browser: Chrome) -> None:
    linode = api.linode(label="demo-redis-1", tags=["demo", "redis"])["id"]
    rules: dict[str, object] = {"inbound_policy": "DROP", "outbound_policy": "ACCEPT"}
    rules["inbound"] = [
        {"action": "ACCEPT", "protocol": "TCP", "ports": "22", "addresses": {"ipv4": ["203.0.113.0/24"]}},
        {"action": "DROP", "protocol": "ICMP", "addresses": {"ipv4": ["0.0.0.0/0"], "ipv6": ["::/0"]}},
        {"action": "ACCEPT", "protocol": "50", "addresses": {"ipv4": [f"10.0.0.{n}/32" for n in range(5)]}},
    ]
    firewall = api.post("/networking/firewalls", label="web", rules=rules, devices={"linodes": [linode]})["id"]
    browser.get(f"{api.address}/#{TOKEN}")
    inbound = (
        "inbound: TCP 22 from 203.0.113.0/24 · drop ICMP from anywhere"
        " · protocol 50 from 10.0.0.0/32, 10.0.0.1/32, 10.0.0.2/32, 2 more · else drop"
    )
    wait_for(lambda: inbound in text(browser, "#firewalls"))
    assert "web enabled · on 1" in text(browser, "#firewalls")
    assert "outbound: accept all" in text(browser, "#firewalls")
    assert "firewall web" in text(browser, ".card")
    api.put(f"/networking/firewalls/{firewall}", status="disabled")
    wait_for(lambda: "web disabled" in text(browser, "#firewalls .disabled"))
    api.lab.store.all(Firewall)[0].label = SCRIPT
    check_that_it_is_text(browser, "#firewalls", ".card")


class Said(NoBalancers):
    """NodeBalancers whose nodes are as one says."""

    def __init__(self) -> None:
        self.states: dict[int, str] = {}

    async def health(self, balancer_id: int) -> dict[int, str]:
        return self.states

    def connections(self, balancer: Balancer) -> int:
        return 9_899


def test_nodebalancers_are_shown_with_the_health_of_their_nodes(serve: Callable[..., Server], browser: Chrome) -> None:
    said = Said()
    api = serve(balancers=said)
    wish = [
        {"label": "app-5", "address": "192.168.128.5:80"},
        {"label": "app-6", "address": "192.168.128.6:80", "mode": "drain"},
    ]
    made = api.post("/nodebalancers", region="us-ord", label="front", configs=[{"algorithm": "source", "nodes": wish}])
    (config,) = api.get(f"/nodebalancers/{made['id']}/configs")["data"]
    first, second = (row["id"] for row in api.get(f"/nodebalancers/{made['id']}/configs/{config['id']}/nodes")["data"])
    browser.get(f"{api.address}/#{TOKEN}")
    wait_for(lambda: "Unknown" in text(browser, "#nodebalancers"))
    shown = text(browser, "#nodebalancers")
    for part in (
        "front",
        made["ipv4"],
        "common",
        "80 http · source",
        "app-5 192.168.128.5:80",
        "192.168.128.6:80 · drain",
    ):
        assert part in shown
    said.states = {first: "UP", second: "DOWN"}
    wait_for(lambda: text(browser, "#nodebalancers .status.down") == "DOWN")
    assert text(browser, "#nodebalancers .status.up") == "UP"

    api.lab.store.all(NodeBalancer)[0].label = SCRIPT
    check_that_it_is_text(browser, "#nodebalancers")
    api.delete(f"/nodebalancers/{made['id']}")
    wait_for(lambda: text(browser, "#nodebalancers") == "")


def test_nothing_is_shown_without_the_token(api: Server, browser: Chrome) -> None:
    api.linode(label="demo-redis-1")
    browser.get(f"{api.address}/#wrong")
    wait_for(lambda: "python -m lab page" in text(browser))
    assert "demo-redis-1" not in text(browser)


def test_the_page_answers_to_this_machine_only(api: Server) -> None:
    reply = httpx.get(api.address, headers={"Host": "lab.example"}, trust_env=False)
    assert reply.status_code == 403
