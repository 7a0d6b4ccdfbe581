# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run would make of an account, what that costs a month, and which limit binds. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.c50k.stack.plugins.module_utils import capacity
from ansible_collections.c50k.stack.plugins.module_utils.firewalls import fleet_firewalls
from ansible_collections.c50k.stack.plugins.module_utils.fleet import FleetError, beyond_count, fleet_instances

# Concurrent connections of one NodeBalancer, by its type (Akamai's documentation, September 2026).
NODEBALANCER_CONNECTIONS = {"common": 10_000, "premium": 100_000}
# What more of each tier raises the limit.
SCALING = ("app_server", "load_balancer")


def fleet_plan(fleet: Mapping[str, Any], account: Mapping[str, Any], target: int = 50_000) -> dict[str, Any]:
    """Compare the fleet's variables with what the account holds.

    :param fleet: as :func:`firewalls.fleet_firewalls` takes it, with ``fleet_front_type``, and ``given``, by tier what
        a user sets of what :mod:`capacity` derives, and ``measured``, the variable ``capacity_measured``.
    :param account: as the module linode_fleet_info returns it.
    :param target: requests in flight to reach.
    :returns: ``tiers`` (rows with ``tier``, ``exists``, ``wanted``, ``max``, ``type``, ``each`` and ``monthly`` in
        dollars), ``make`` and ``make_free`` (names), ``beyond`` (names above count), ``keep`` (a NodeBalancer that is
        not wanted), ``monthly_now``, ``monthly_then``, ``requests_in_flight``, ``binding``, ``add`` (for each tier what
        to add, with its cost), ``reached`` with that, ``obstacle``, what keeps the target out of reach, or nothing,
        ``derived``, rows of tier, name and value for each host, and where it was measured ``requests_per_second``, with
        ``requests_per_second_binding``.
    :raises FleetError: bad variables, or a type that the account does not sell.
    """
    wanted = fleet_instances(fleet, account["placement_limit"])
    here = {host["label"] for host in account["instances"]}
    new = [host for host in wanted if host["label"] not in here]
    by_tier: dict[str, list[str]] = {}
    for host in account["instances"]:
        by_tier.setdefault(host["tier"], []).append(host["label"])
    rows = []
    for tier, value in fleet["fleet_tiers"].items():
        now = sum(cost(account, host) for host in account["instances"] if host["tier"] == tier)
        rows.append(
            {
                "tier": tier,
                "exists": len(by_tier.get(tier, [])),
                "wanted": value["count"],
                "max": value.get("max", value["count"]),
                "type": value["type"],
                "each": price(account, value["type"], f"fleet_tiers.{tier}.type", value.get("backups", False)),
                "monthly": now + sum(cost(account, host) for host in new if tier in host["tags"]),
            }
        )
    front = front_row(fleet, account)
    have, then = (front["each"] * front[count] if front else 0 for count in ("exists", "after"))
    now = sum(cost(account, host) for host in account["instances"])
    return {
        "tiers": [*rows, *([front] if front else [])],
        "make": [*([f"NodeBalancer {fleet['fleet_name']}"] if then > have else []), *(host["label"] for host in new)],
        "make_free": free_of_charge(fleet, wanted, account),
        "beyond": beyond_count(fleet, by_tier),
        "keep": f"NodeBalancer {fleet['fleet_name']}" if front and front["exists"] > front["wanted"] else "",
        "monthly_now": now + have,
        "monthly_then": now + sum(cost(account, host) for host in new) + then,
        **reach(fleet, account, target),
    }


def front_row(fleet: Mapping[str, Any], account: Mapping[str, Any]) -> dict[str, Any] | None:
    """The row of the NodeBalancer, where there is one or is to be one; no run removes it."""
    wanted, have = int(fleet["fleet_front"] == "nodebalancer"), account["front"].get("type")
    kind = have or (fleet["fleet_front_type"] if wanted else None)
    if kind is None:
        return None
    if kind not in account["nodebalancers"]:
        raise FleetError(f"fleet_front_type is {kind}, which the account's price list does not have.")
    each = account["nodebalancers"][kind]
    row = {"tier": "front", "exists": int(have is not None), "wanted": wanted, "max": 1, "after": 1}
    return {**row, "type": f"{kind} NodeBalancer", "each": each, "monthly": each}


def free_of_charge(
    fleet: Mapping[str, Any], wanted: Sequence[Mapping[str, Any]], account: Mapping[str, Any]
) -> list[str]:
    """What else would be made: the VPC, firewalls, placement groups."""
    firewalls = {firewall["label"] for firewall in account["firewalls"]}
    groups = dict.fromkeys(host["placement_group"] for host in wanted if host["placement_group"])
    return [
        *([] if account["vpc"] else [f"VPC {fleet['fleet_name']}"]),
        *(f"firewall {row['label']}" for row in fleet_firewalls(fleet) if row["label"] not in firewalls),
        *(f"placement group {label}" for label in groups if label not in account["placement_groups"]),
    ]


def size_of(account: Mapping[str, Any], type_id: str, what: str) -> Mapping[str, Any]:
    if type_id not in account["types"]:
        raise FleetError(f"{what} is {type_id}, which the account's price list does not have.")
    found: Mapping[str, Any] = account["types"][type_id]
    return found


def price(account: Mapping[str, Any], type_id: str, what: str, backups: bool) -> float:
    """Dollars a month of one instance of a type."""
    size = size_of(account, type_id, what)
    return float(size["monthly"] + (size["backups"] if backups else 0))


def cost(account: Mapping[str, Any], host: Mapping[str, Any]) -> float:
    """Dollars a month of one instance, ``label``, ``type`` and ``backups``."""
    return price(account, host["type"], f"The type of {host['label']}", host["backups"])


def derive(fleet: Mapping[str, Any], account: Mapping[str, Any], counts: Mapping[str, int]) -> dict[str, Any]:
    """What :mod:`capacity` says of so many hosts of each tier, from their types, before they exist."""
    tiers = {
        tier: {
            **fleet.get("given", {}).get(tier, {}),
            "max": max(counts[tier], value.get("max", value["count"])),
            "hosts": [size_of(account, value["type"], f"fleet_tiers.{tier}.type")] * counts[tier],
        }
        for tier, value in fleet["fleet_tiers"].items()
        if tier in capacity.TIERS
    }
    return capacity.plan({"tiers": tiers, "measured": fleet.get("measured")})


def limits(fleet: Mapping[str, Any], account: Mapping[str, Any], counts: Mapping[str, int]) -> tuple[int, str]:
    """Requests in flight that so many hosts of each tier hold, and what binds."""
    result = derive(fleet, account, counts)
    found = [(result["requests_in_flight"], result["binding"])]
    if fleet["fleet_front"] == "nodebalancer":
        kind = account["front"].get("type") or fleet["fleet_front_type"]
        found.append((NODEBALANCER_CONNECTIONS[kind], f"a {kind} NodeBalancer's concurrent connections"))
    return min(found)


def reach(fleet: Mapping[str, Any], account: Mapping[str, Any], target: int) -> dict[str, Any]:
    """What the fleet as wanted holds, and the fewest hosts to add for the target."""
    counts = {tier: value["count"] for tier, value in fleet["fleet_tiers"].items()}
    planned = derive(fleet, account, counts)
    number, binding = limits(fleet, account, counts)
    add: dict[str, int] = {}
    reached, obstacle = number, ""
    while reached < target:
        # one tier more, or both, where neither helps alone
        tries = [{tier: counts[tier] + 1} for tier in SCALING if counts.get(tier)]
        tries.append({tier: count for one in tries for tier, count in one.items()})
        try:
            best, change = max(
                ((limits(fleet, account, counts | one)[0], one) for one in tries), key=lambda pair: pair[0]
            )
            if best <= reached:
                obstacle = limits(fleet, account, counts)[1]
                break
            # half of what a straight line says, so as not to pass the target
            steps = max(1, math.floor((target - reached) / (best - reached) / 2))
            more = {tier: counts[tier] + steps for tier in change}
            reached = limits(fleet, account, counts | more)[0]
        except capacity.CapacityError as error:
            obstacle = str(error)
            break
        counts |= more
        add = {tier: add.get(tier, 0) + (steps if tier in more else 0) for tier in {**add, **more}}
    tiers = fleet["fleet_tiers"]
    extra = {tier: price(account, tiers[tier]["type"], "type", tiers[tier].get("backups", False)) for tier in add}
    return {
        "target_concurrency": target,
        "derived": capacity.plan_rows(planned),
        "requests_per_second": planned.get("requests_per_second"),
        "requests_per_second_binding": planned.get("requests_per_second_binding", ""),
        "requests_in_flight": number,
        "binding": binding,
        "reached": reached,
        "obstacle": obstacle,
        "add": [{"tier": tier, "hosts": hosts, "monthly": hosts * extra[tier]} for tier, hosts in sorted(add.items())],
    }


def dollars(amount: float) -> str:
    return f"${amount:,.2f}".removesuffix(".00")


def fleet_plan_lines(plan: Mapping[str, Any], vpc: Mapping[str, Any]) -> list[str]:
    """The plan as lines of text."""
    head = ("tier", "exists", "wanted", "max", "type", "each/month", "month")
    rows = [
        (
            *(str(row[key]) for key in ("tier", "exists", "wanted", "max", "type")),
            *map(dollars, (row["each"], row["monthly"])),
        )
        for row in plan["tiers"]
    ]
    lines = table([head, *rows, ("all", "", "", "", "", "", dollars(plan["monthly_then"]))])
    lines += ["", f"Costs {dollars(plan['monthly_now'])} a month now, {dollars(plan['monthly_then'])} then."]
    lines.append(f"Would make: {', '.join(plan['make']) or 'nothing'}.")
    if plan["make_free"]:
        lines.append(f"Free of charge: {', '.join(plan['make_free'])}.")
    if plan["beyond"]:
        names = ",".join(plan["beyond"])
        lines.append(f"More than wanted: {', '.join(plan['beyond'])}; kept, unless named: -e fleet_remove={names}")
    if plan["keep"]:
        lines.append(f"Kept, though fleet_front is none: {plan['keep']}. It is of no use then; delete it by hand.")
    if vpc.get("strangers"):
        lines.append(f"Not the fleet's, in its VPC {vpc['label']}: {', '.join(vpc['strangers'])}.")
    return [*lines, "", *capacity_lines(plan)]


def capacity_lines(plan: Mapping[str, Any]) -> list[str]:
    """What each host is to carry, as a table, and how far the fleet is from its target."""
    lines = ["Derived from the types, for each host:", *table([("tier", "what", "value"), *plan["derived"]]), ""]
    lines.append(f"Holds {plan['requests_in_flight']:,} requests in flight, of {plan['target_concurrency']:,} wanted.")
    lines.append(f"What binds: {plan['binding']}.")
    if plan["requests_per_second"] is not None:
        lines.append(
            f"Answers {plan['requests_per_second']:,} requests a second: {plan['requests_per_second_binding']}."
        )
    if plan["add"]:
        more = ", ".join(f"{row['hosts']} {row['tier']} ({dollars(row['monthly'])} a month)" for row in plan["add"])
        lines.append(f"Add {more} for {plan['reached']:,}.")
    if plan["obstacle"]:
        lines.append(f"What keeps the target out of reach then: {plan['obstacle']}")
    return lines


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell; numbers and amounts to the right."""
    widths = [max(len(row[number]) for row in rows) for number in range(len(rows[0]))]
    left = {0, 4}
    return [
        "  ".join(
            cell.ljust(width) if number in left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
