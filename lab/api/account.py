# SPDX-License-Identifier: GPL-3.0-or-later
"""/account and /maintenance: whose account it is, what holds for all of it, and what it may use where."""

from __future__ import annotations

from lab import catalog
from lab.api.access import USERNAME
from lab.api.instances import MAINTENANCE_POLICIES
from lab.api.listing import as_is, page
from lab.api.profile import EMAIL
from lab.api.wire import Call, Problems, fields, not_found, route
from lab.models import Instance, Json, SshKey

AVAILABILITY_KEYS = ("region",)
NO_KEYS = ("id",)
GENERATIONS = (
    *("legacy_config_only", "legacy_config_default_but_linode_allowed"),
    *("linode_default_but_legacy_config_allowed", "linode_only"),
)
SETTINGS_FIELDS = {
    **{"backups_enabled": bool, "network_helper": bool},
    **{"interfaces_for_new_linodes": str, "maintenance_policy": str},
}
CHOICES = {"interfaces_for_new_linodes": GENERATIONS, "maintenance_policy": MAINTENANCE_POLICIES}
# Maintenance: (slug, label, what it does, seconds of notice).
_POLICIES = (
    ("linode/migrate", "Migrate", "Moves the Linode, running, to another physical host", 3600),
    ("linode/power_off_on", "Power Off/Power On", "Powers the Linode off for as long as it takes", 1800),
)


async def get_account(call: Call) -> Json:
    capabilities = {name for region in call.lab.regions.values() for name in region["capabilities"]}
    return {
        "euuid": "00000000-0000-0000-0000000000000000",
        "company": "c50k lab",
        "email": EMAIL,
        "first_name": "",
        "last_name": "",
        "address_1": "",
        "address_2": "",
        "city": "",
        "state": "",
        "zip": "",
        "country": "",
        "phone": "",
        "tax_id": "",
        "balance": 0.0,
        "balance_uninvoiced": 0.0,
        "credit_card": None,
        "billing_source": "akamai",
        "active_promotions": [],
        "active_since": call.lab.started,
        "capabilities": sorted(capabilities),
    }


async def get_settings(call: Call) -> Json:
    settings = call.lab.account
    return {
        "backups_enabled": settings.backups_enabled,
        "interfaces_for_new_linodes": settings.interfaces_for_new_linodes,
        "longview_subscription": None,
        "maintenance_policy": settings.maintenance_policy,
        "managed": False,
        "network_helper": settings.network_helper,
        "object_storage": "disabled",
    }


async def update_settings(call: Call) -> Json:
    """Change what holds for Linodes that are made from now on."""
    settings, problems = call.lab.account, Problems()
    given = fields(call.body, problems, SETTINGS_FIELDS)
    for name, choices in CHOICES.items():
        problems.choose(name, given.get(name, choices[0]), choices)
    problems.check()
    for name, value in given.items():
        setattr(settings, name, value)
    settings.id = settings.id or call.lab.store.next_id()
    call.lab.store.save(settings)
    return await get_settings(call)


async def list_availability(call: Call) -> Json:
    return page(call, list(call.lab.regions.values()), _availability, AVAILABILITY_KEYS)


async def get_availability(call: Call) -> Json:
    return _availability(call.entry(call.lab.regions))


async def list_users(call: Call) -> Json:
    return page(call, [_user(call)], as_is, ("username",))


async def get_user(call: Call) -> Json:
    if call.request.path_params["name"] != USERNAME:
        raise not_found()
    return _user(call)


async def get_transfer(call: Call) -> Json:
    """Return the month's transfer pool, in GB; without hosts there is no traffic."""
    call.without_hosts("Transfer figures are")
    quota = sum(catalog.TYPES[item.type]["transfer"] for item in call.lab.store.all(Instance))
    return {"used": 0, "quota": quota, "billable": 0, "region_transfers": []}


async def list_nothing(call: Call) -> Json:
    """List bills: an account of the lab has none."""
    return page(call, [], as_is, NO_KEYS)


async def list_policies(call: Call) -> Json:
    rows = [
        {
            "slug": slug,
            "label": label,
            "description": description,
            "type": slug.removeprefix("linode/"),
            "notification_period_sec": notice,
            "is_default": slug == MAINTENANCE_POLICIES[0],
        }
        for slug, label, description, notice in _POLICIES
    ]
    return page(call, rows, as_is, ("slug",))


def _availability(region: Json) -> Json:
    offered = [name for name in catalog.SERVICES if name in region["capabilities"]]
    missing = [name for name in catalog.SERVICES if name not in offered]
    return {"region": region["id"], "available": offered, "unavailable": missing}


def _user(call: Call) -> Json:
    return {
        "username": USERNAME,
        "email": EMAIL,
        "restricted": False,
        "ssh_keys": [item.label for item in call.lab.store.all(SshKey)],
        "tfa_enabled": False,
        "user_type": "default",
        "verified_phone_number": None,
        "password_created": None,
        "last_login": None,
    }


ROUTES = [
    route("GET", "/account", get_account),
    route("GET", "/account/settings", get_settings),
    route("PUT", "/account/settings", update_settings),
    route("GET", "/account/availability", list_availability, "list"),
    route("GET", "/account/availability/{id}", get_availability),
    route("GET", "/account/users", list_users, "list"),
    route("GET", "/account/users/{name}", get_user),
    route("GET", "/account/transfer", get_transfer),
    route("GET", "/account/invoices", list_nothing, "list"),
    route("GET", "/account/payments", list_nothing, "list"),
    route("GET", "/maintenance/policies", list_policies, "list"),
]
