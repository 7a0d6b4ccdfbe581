# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of a Cloud Firewall: what a request may say, their versions, and how they read in words.

A rule: ``{"action": "ACCEPT", "protocol": "TCP", "ports": "22, 80-90", "addresses": {"ipv4": ["192.0.2.0/24"]}}``, and
``label`` and ``description`` if one likes. The first that matches a new connection decides, else the policy.
"""

from __future__ import annotations

import json
import re
import zlib
from ipaddress import IPv4Interface, IPv6Interface
from typing import Any

from lab.api.wire import Problems
from lab.models import Json, now

DIRECTIONS = ("inbound", "outbound")
ACTIONS = ("ACCEPT", "DROP")
PROTOCOLS = ("ALL", "ICMP", "IPENCAP", "TCP", "UDP")
WITH_PORTS = ("TCP", "UDP", "6", "17")
KEYS = ("inbound", "inbound_policy", "outbound", "outbound_policy")
RULE_KEYS = ("action", "addresses", "description", "label", "ports", "protocol")
FAMILIES: dict[str, type[IPv4Interface] | type[IPv6Interface]] = {"ipv4": IPv4Interface, "ipv6": IPv6Interface}
MOST_RULES, MOST_ADDRESSES, MOST_PORTS = 25, 255, 15
SHOWN_ADDRESSES = 3
ANYWHERE = {"0.0.0.0/0", "::/0"}

_ALL: Json = {"ipv4": ["0.0.0.0/0"], "ipv6": ["::/0"]}
_PRIVATE: Json = {"ipv4": ["10.0.0.0/8", "192.168.0.0/17", "172.16.0.0/12"]}


def _accept(name: str, addresses: Json, protocol: str, **ports: str) -> Json:
    texts = {"label": f"accept-inbound-{name.lower().replace('-', '')}", "description": f"Accept inbound {name}"}
    return {"action": "ACCEPT", "addresses": addresses, "protocol": protocol, **ports, **texts}


_SSH, _ICMP = _accept("SSH", _ALL, "TCP", ports="22"), _accept("ICMP", _ALL, "ICMP")
_PRIVATE_TCP, _PRIVATE_UDP = (_accept("RFC-1918", _PRIVATE, name, ports="1-65535") for name in ("TCP", "UDP"))
_POLICIES: Json = {"inbound_policy": "DROP", "outbound": [], "outbound_policy": "ACCEPT"}
# Linode's own, for the two kinds of interfaces
TEMPLATES: dict[str, Json] = {
    "vpc": {"inbound": [_SSH, _ICMP, _PRIVATE_TCP, _PRIVATE_UDP], **_POLICIES},
    "public": {"inbound": [_SSH, _ICMP], **_POLICIES},
}


def read(body: Json, prefix: str, before: Json, problems: Problems) -> Json:
    """Return the rules of a request; what it does not name stays as ``before``. Note what is wrong with them."""
    if unknown := body.keys() - set(KEYS):
        problems.add(prefix.rstrip(".") or sorted(unknown)[0], f"Keys must be one of: {', '.join(KEYS)}")
    rules = {name: before.get(name, []) for name in DIRECTIONS}
    for name in DIRECTIONS:
        policy = body.get(f"{name}_policy", before.get(f"{name}_policy"))
        if policy not in ACTIONS:
            wrong = f"Must be one of {', '.join(ACTIONS)}"
            problems.add(f"{prefix}{name}_policy", f"{name}_policy is required" if policy is None else wrong)
        rules[f"{name}_policy"] = policy
        given = body.get(name, rules[name])
        given = [] if given is None else given
        if not isinstance(given, list):
            problems.add(f"{prefix}{name}", "Must be an array")
            continue
        rules[name] = [_rule(item, f"{prefix}{name}[{number}]", problems) for number, item in enumerate(given)]
    if sum(len(rules[name]) for name in DIRECTIONS) > MOST_RULES:
        problems.add(prefix.rstrip(".") or "inbound", f"A Firewall can have at most {MOST_RULES} rules")
    return rules


def version(rules: Json, number: int) -> Json:
    """Return rules as a version of them, with the time they came."""
    shown = {name: rules[name] for name in KEYS}
    fingerprint = zlib.crc32(json.dumps(shown, sort_keys=True).encode())
    return {"updated": now(), "rules": {**shown, "version": number, "fingerprint": f"{fingerprint:08x}"}}


def in_words(rules: Json, direction: str) -> str:
    """Return one direction's rules in a line, such as ``TCP 22 from 192.0.2.0/24 · else drop``."""
    words = [_in_words(rule, "from" if direction == "inbound" else "to") for rule in rules[direction]]
    policy = rules[f"{direction}_policy"].lower()
    return " · ".join([*words, f"else {policy}"]) if words else f"{policy} all"


def _in_words(rule: Json, word: str) -> str:
    listed = [address for family in ("ipv4", "ipv6") for address in rule["addresses"].get(family, [])]
    addresses = ["anywhere", *(item for item in listed if item not in ANYWHERE)] if ANYWHERE & {*listed} else listed
    if len(addresses) > SHOWN_ADDRESSES:
        addresses = [*addresses[:SHOWN_ADDRESSES], f"{len(addresses) - SHOWN_ADDRESSES} more"]
    drop = "drop " if rule["action"] == "DROP" else ""
    protocol = f"protocol {rule['protocol']}" if rule["protocol"].isdecimal() else rule["protocol"]
    ports = f" {rule['ports']}" if rule.get("ports") else ""
    return f"{drop}{protocol}{ports} {word} {', '.join(addresses)}"


def _rule(item: Any, name: str, problems: Problems) -> Json:
    if not isinstance(item, dict):
        problems.add(name, "Must be an object")
        return {}
    if item.keys() - set(RULE_KEYS):
        problems.add(name, f"Keys must be one of: {', '.join(RULE_KEYS)}")
    rule = {key: item[key] for key in RULE_KEYS if item.get(key) is not None}
    if rule.get("action") not in ACTIONS:
        wrong = f"Must be one of {', '.join(ACTIONS)}"
        problems.add(f"{name}.action", "action is required" if "action" not in rule else wrong)
    protocol = rule.get("protocol")
    if not _is_protocol(protocol):
        wrong = f"Must be one of {', '.join(PROTOCOLS)}, or a protocol number, 0-255"
        problems.add(f"{name}.protocol", "protocol is required" if protocol is None else wrong)
    elif "ports" in rule:
        _check_ports(rule["ports"], protocol, f"{name}.ports", problems)
    _check_texts(rule, name, problems)
    _check_addresses(rule, f"{name}.addresses", problems)
    return rule


def _is_protocol(value: Any) -> bool:
    if isinstance(value, str) and re.fullmatch(r"0|[1-9]\d{0,2}", value):
        return int(value) < 256
    return value in PROTOCOLS


def _check_texts(rule: Json, name: str, problems: Problems) -> None:
    label, description = rule.get("label", "rule"), rule.get("description", "rule")
    for key, text in (("label", label), ("description", description)):
        if not isinstance(text, str):
            problems.add(f"{name}.{key}", "Must be a string")
            return
    if not 3 <= len(label) <= 32:
        problems.add(f"{name}.label", "Label must be 3-32 characters.")
    elif not re.match(r"[A-Za-z]", label):
        problems.add(f"{name}.label", "Label must begin with a letter.")
    elif not re.fullmatch(r"[A-Za-z0-9._-]+", label):
        reason = "Label must include only ASCII letters, numbers, underscores, periods, and dashes."
        problems.add(f"{name}.label", reason)
    if not 1 <= len(description) <= 100:
        problems.add(f"{name}.description", "Length must be 1-100 characters")


def _check_ports(ports: Any, protocol: Any, name: str, problems: Problems) -> None:
    """Note what is wrong with a ports string: at most 15 pieces, of which a range is two."""
    if protocol not in WITH_PORTS:
        problems.add(name, f"Ports are not allowed for {protocol} protocols.")
        return
    if not isinstance(ports, str):
        problems.add(name, "Must be a string")
        return
    pieces = [piece.removeprefix(" ").split("-") for piece in ports.split(",")]
    numbers = [number for piece in pieces for number in piece]
    if any(len(piece) > 2 for piece in pieces):
        problems.add(name, "Ranges must have 2 values")
    elif not all(re.fullmatch(r"\d{1,6}", number) and 1 <= int(number) <= 65535 for number in numbers):
        problems.add(name, "Must be 1-65535")
    elif any(number.startswith("0") for number in numbers):
        problems.add(name, "Port must not have leading zeroes")
    elif any(len(piece) == 2 and int(piece[0]) >= int(piece[1]) for piece in pieces):
        problems.add(name, "Range must start with a smaller number and end with a larger number")
    elif len(numbers) > MOST_PORTS:
        problems.add(name, f"Number of ports or port range endpoints exceeded. Max allowed is {MOST_PORTS}")


def _check_addresses(rule: Json, name: str, problems: Problems) -> None:
    given = rule.get("addresses")
    if not isinstance(given, dict):
        problems.add(name, "addresses is required" if given is None else "Must be an object")
        return
    rule["addresses"] = {family: listed for family, listed in given.items() if listed is not None}
    if not rule["addresses"] or rule["addresses"].keys() - FAMILIES.keys():
        problems.add(name, "Must contain ipv4, ipv6, or both")
        return
    count = 0
    for family, listed in rule["addresses"].items():
        if not isinstance(listed, list) or not listed:
            problems.add(f"{name}.{family}", "Must be an array of addresses, not empty")
            continue
        count += len(listed)
        for number, address in enumerate(listed):
            if not _is_network(address, FAMILIES[family]):
                reason = "Must be a valid IPv4 or IPv6 address or range, with its mask"
                problems.add(f"{name}.{family}[{number}]", reason)
    if count > MOST_ADDRESSES:
        problems.add(name, f"A rule can have at most {MOST_ADDRESSES} addresses")


def _is_network(address: Any, kind: type[IPv4Interface] | type[IPv6Interface]) -> bool:
    if not isinstance(address, str) or "/" not in address or "%" in address:
        return False
    try:
        kind(address)
    except ValueError:
        return False
    return True
