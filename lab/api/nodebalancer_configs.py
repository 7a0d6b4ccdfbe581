# SPDX-License-Identifier: GPL-3.0-or-later
"""The configs of a NodeBalancer: a port each, with its protocol, its algorithm, its checks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from lab.api import nodebalancer_nodes as nodes
from lab.api.certificates import check_pair, describe
from lab.api.listing import page
from lab.api.nodebalancer_nodes import applied, config_of, nodes_of
from lab.api.wire import Call, Problems, fields, route
from lab.models import Json, NodeBalancer, NodeBalancerConfig, NodeBalancerNode, NodeBalancerVpc, Record

KEYS = ("id", "port", "protocol", "algorithm", "stickiness", "check", "proxy_protocol", "nodebalancer_id")
FIELDS = {
    **{"port": int, "protocol": str, "algorithm": str, "stickiness": str, "proxy_protocol": str, "cipher_suite": str},
    **{"check": str, "check_interval": int, "check_timeout": int, "check_attempts": int, "check_passive": bool},
    **{"check_path": str, "check_body": str, "udp_check_port": int, "ssl_cert": str, "ssl_key": str},
}
REDACTED = "<REDACTED>"
UDP_SESSION_TIMEOUT = 2
PORTS = range(1, 65536)
NUMBERS = {
    **{"port": PORTS, "udp_check_port": PORTS},
    **{"check_interval": range(2, 3601), "check_timeout": range(1, 31), "check_attempts": range(1, 31)},
}
WORDS = {
    "protocol": ("http", "https", "tcp", "udp"),
    "algorithm": ("roundrobin", "leastconn", "source"),
    "stickiness": ("none", "table", "http_cookie"),
    "check": ("none", "connection", "http", "http_body"),
    "proxy_protocol": ("none", "v1", "v2"),
    "cipher_suite": ("recommended", "legacy"),
}
UDP_WORDS = {
    **WORDS,
    "algorithm": ("roundrobin", "leastconn", "ring_hash"),
    "stickiness": ("none", "session", "source_ip"),
    "proxy_protocol": ("none",),
    "cipher_suite": ("none",),
}
CHECK_PATH = re.compile(r"/[!-~]*")  # nothing that ends a request line or a line of a configuration
CHECK_BODY = re.compile(r"[^\x00-\x1f\x7f]*")


async def list_configs(call: Call) -> Json:
    balancer = call.record(NodeBalancer)
    health = await call.lab.balancers.health(balancer.id)
    return page(call, configs_of(call, balancer), lambda config: render(call, config, health), KEYS)


async def create_config(call: Call) -> Json:
    """Create a config, with its nodes if it names any."""
    balancer, problems = call.record(NodeBalancer), Problems()
    reader = nodes.Reader(call, balancer, nodes.vpcs_of(call, balancer))
    config, backends = _read_new(call, balancer, reader, call.body, configs_of(call, balancer), problems)
    problems.check()
    balancer.backend_connectivity = reader.connectivity
    call.lab.store.save(balancer, config, *backends)
    await applied(call, balancer, "nodebalancer_config_create")
    return render(call, config, {})


async def get_config(call: Call) -> Json:
    config = config_of(call)
    return render(call, config, await call.lab.balancers.health(config.nodebalancer_id))


async def update_config(call: Call) -> Json:
    config, problems = config_of(call), Problems()
    balancer = call.record(NodeBalancer)
    changed = _read(call, config, call.body, configs_of(call, balancer), problems)
    problems.check()
    call.lab.store.save(changed, *_modes(changed, nodes_of(call, config)))
    await applied(call, balancer, "nodebalancer_config_update")
    return render(call, changed, await call.lab.balancers.health(balancer.id))


async def rebuild_config(call: Call) -> Json:
    """Change a config, and let its nodes be those of the request: an ``id`` keeps a node, what is not named goes."""
    config, problems = config_of(call), Problems()
    balancer = call.record(NodeBalancer)
    changed = _read(call, config, call.body, configs_of(call, balancer), problems)
    items = fields(call.body, problems, {"nodes": list}).get("nodes")
    if items is None:
        problems.add("nodes", "nodes is required")
    before = {node.id: node for node in nodes_of(call, config)}
    reader = nodes.Reader(call, balancer, nodes.vpcs_of(call, balancer))
    backends = _read_nodes(call, balancer, reader, changed, items or [], before, problems)
    problems.check()
    kept = {node.id for node in backends}
    balancer.backend_connectivity = reader.connectivity
    call.lab.store.save(balancer, changed, *backends)
    call.lab.store.delete(*[node for node in before.values() if node.id not in kept])
    await applied(call, balancer, "nodebalancer_config_update")
    return render(call, changed, await call.lab.balancers.health(balancer.id))


async def delete_config(call: Call) -> Json:
    """Delete a config with its nodes."""
    config = config_of(call)
    call.lab.store.delete(*nodes_of(call, config), config)
    await applied(call, call.record(NodeBalancer), "nodebalancer_config_delete")
    return {}


def configs_of(call: Call, balancer: NodeBalancer) -> list[NodeBalancerConfig]:
    return [item for item in call.lab.store.all(NodeBalancerConfig) if item.nodebalancer_id == balancer.id]


def read_all(
    call: Call, balancer: NodeBalancer, vpcs: Sequence[NodeBalancerVpc], items: list[Any], problems: Problems
) -> list[Record]:
    """Return the configs and nodes that a new NodeBalancer comes with."""
    reader = nodes.Reader(call, balancer, vpcs)
    configs: list[NodeBalancerConfig] = []
    backends: list[NodeBalancerNode] = []
    for number, item in enumerate(items):
        found = Problems()
        config, its_nodes = _read_new(call, balancer, reader, item, configs, found)
        problems.include(found, f"configs[{number}]")
        configs.append(config)
        backends += its_nodes
    balancer.backend_connectivity = reader.connectivity
    return [*configs, *backends]


def render(call: Call, config: NodeBalancerConfig, health: dict[int, str]) -> Json:
    """Return a config as the API shows it; ``health`` is what is known of the NodeBalancer's nodes now."""
    states = [health.get(node.id) for node in nodes_of(call, config)]
    name, fingerprint = describe(config.ssl_cert) if config.ssl_cert else ("", "")
    return {
        **vars(config),
        "ssl_cert": REDACTED if config.ssl_cert else None,
        "ssl_key": REDACTED if config.ssl_key else None,
        "ssl_commonname": name,
        "ssl_fingerprint": fingerprint,
        "udp_session_timeout": UDP_SESSION_TIMEOUT,
        "nodes_status": {"up": states.count("UP"), "down": states.count("DOWN")},
    }


def _read_new(
    call: Call,
    balancer: NodeBalancer,
    reader: nodes.Reader,
    body: Any,
    others: Iterable[NodeBalancerConfig],
    problems: Problems,
) -> tuple[NodeBalancerConfig, list[NodeBalancerNode]]:
    own = NodeBalancerConfig(call.lab.store.next_id(), balancer.id)
    if not isinstance(body, dict):
        problems.add("", "Must be an object")
        return own, []
    if body.get("protocol") == "udp":
        own.stickiness = "session"
    config = _read(call, own, body, others, problems)
    items = fields(body, problems, {"nodes": list}).get("nodes", [])
    return config, _read_nodes(call, balancer, reader, config, items, {}, problems)


def _read_nodes(
    call: Call,
    balancer: NodeBalancer,
    reader: nodes.Reader,
    config: NodeBalancerConfig,
    items: list[Any],
    before: dict[int, NodeBalancerNode],
    problems: Problems,
) -> list[NodeBalancerNode]:
    """Return the nodes of a request; those with an ``id`` are of ``before``."""
    nodes.check_number(balancer, len(items), "nodes", problems)
    backends = []
    for number, item in enumerate(items):
        found = Problems()
        node_id = item.get("id") if isinstance(item, dict) else None
        if node_id is not None and node_id not in before:
            found.add("id", "A Node by that ID was not found in this config")
        own = before.get(node_id) if isinstance(node_id, int) else None
        backends.append(reader.read(own or nodes.new_node(call, config), config, item, found))
        problems.include(found, f"nodes[{number}]")
    return backends


def _read(
    call: Call, own: NodeBalancerConfig, body: Json, others: Iterable[NodeBalancerConfig], problems: Problems
) -> NodeBalancerConfig:
    """Return ``own`` as a request wants it."""
    given = fields(body, problems, FIELDS)
    given = {name: value for name, value in given.items() if value != REDACTED}
    protocol = given.get("protocol", own.protocol)
    config = replace(own, **{**_consequences(own.protocol, protocol), **given})
    udp = protocol == "udp"
    for name, allowed in (UDP_WORDS if udp else WORDS).items():
        problems.choose(name, getattr(config, name), allowed)
    for name, numbers in NUMBERS.items():
        if getattr(config, name) not in numbers:
            problems.add(name, f"Must be {numbers[0]}-{numbers[-1]}")
    if udp and call.lab.settings.hosts:
        problems.add("protocol", "UDP is not available in this region")
    for other in others:
        if other.id != own.id and other.port == config.port and (other.protocol == "udp") == udp:
            problems.add("port", f"Another config is already using port {config.port}")
    if config.stickiness == "http_cookie" and protocol == "tcp":
        problems.add("stickiness", "Stickiness http_cookie requires protocol 'http' or 'https'")
    if config.proxy_protocol in ("v1", "v2") and protocol in ("http", "https"):
        problems.add("proxy_protocol", f"Proxy protocol {config.proxy_protocol} requires protocol 'tcp'")
    _check_checks(config, udp, problems)
    _check_tls(config, given, problems)
    return config


def _consequences(before: str, protocol: str) -> Json:
    """Return what goes with a change of protocol."""
    changes: Json = {}
    if protocol == "udp" != before:
        changes |= {"cipher_suite": "none", "check_passive": False}
    if before == "udp" != protocol:
        changes |= {"cipher_suite": "recommended"}
    if protocol != "https":
        changes |= {"ssl_cert": None, "ssl_key": None}
    return changes


def _check_checks(config: NodeBalancerConfig, udp: bool, problems: Problems) -> None:
    if config.check_interval <= config.check_timeout:
        problems.add("check_interval", "Must be greater than check_timeout")
    if udp and config.check_passive:
        problems.add("check_passive", "Must be false for protocol 'udp'")
    if config.check in ("http", "http_body") and not config.check_path:
        problems.add("check_path", f"check_path is required when check is {config.check}")
    if config.check == "http_body" and not config.check_body:
        problems.add("check_body", "check_body is required when check is http_body")
    if config.check_path and not CHECK_PATH.fullmatch(config.check_path):
        problems.add("check_path", "Must begin with a slash, and have no spaces")
    if not CHECK_BODY.fullmatch(config.check_body):
        problems.add("check_body", "Must be one line of text")


def _check_tls(config: NodeBalancerConfig, given: Json, problems: Problems) -> None:
    missing = [name for name in ("ssl_cert", "ssl_key") if not getattr(config, name)]
    for name in ("ssl_cert", "ssl_key"):
        if config.protocol == "https" and name in missing:
            problems.add(name, f"{name} is required when protocol is https")
        elif config.protocol != "https" and given.get(name):
            problems.add(name, f"{name} requires protocol 'https'")
    if config.protocol == "https" and not missing:
        check_pair(str(config.ssl_cert), str(config.ssl_key), problems)


def _modes(config: NodeBalancerConfig, backends: list[NodeBalancerNode]) -> list[NodeBalancerNode]:
    """Return the nodes with the mode that the protocol has: those of UDP have none."""
    if config.protocol == "udp":
        return [replace(node, mode=nodes.UDP_MODE) for node in backends]
    return [replace(node, mode="accept") if node.mode == nodes.UDP_MODE else node for node in backends]


PATH = "/nodebalancers/{id:int}/configs"
ROUTES = [
    route("GET", PATH, list_configs, "list"),
    route("POST", PATH, create_config),
    route("GET", f"{PATH}/{{config_id:int}}", get_config),
    route("PUT", f"{PATH}/{{config_id:int}}", update_config),
    route("DELETE", f"{PATH}/{{config_id:int}}", delete_config),
    route("POST", f"{PATH}/{{config_id:int}}/rebuild", rebuild_config),
]
