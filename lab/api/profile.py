# SPDX-License-Identifier: GPL-3.0-or-later
"""/profile: who asks, with which SSH keys and which token."""

from __future__ import annotations

from lab.api.access import USERNAME, is_ssh_key
from lab.api.labels import check_plain_label
from lab.api.listing import as_is, page
from lab.api.wire import Call, Problems, fields, route
from lab.models import Json, SshKey

EMAIL = "lab@example.com"
KEY_KEYS = ("id", "label", "created")
TOKEN_KEYS = ("id", "label")
LABEL_LENGTH = range(1, 65)
SHOWN = 16  # characters of a token


async def get_profile(call: Call) -> Json:
    return {
        "uid": 1,
        "username": USERNAME,
        "email": EMAIL,
        "timezone": "UTC",
        "email_notifications": False,
        "restricted": False,
        "two_factor_auth": False,
        "ip_whitelist_enabled": False,
        "lish_auth_method": "disabled",
        "authentication_type": "password",
        "authorized_keys": [],
        "verified_phone_number": None,
        "referrals": {"code": "", "url": "", "total": 0, "completed": 0, "pending": 0, "credit": 0},
    }


async def list_keys(call: Call) -> Json:
    return page(call, call.lab.store.all(SshKey), render_key, KEY_KEYS)


async def create_key(call: Call) -> Json:
    """Keep a public SSH key, for Linodes that are made with ``authorized_users``."""
    problems = Problems()
    given = fields(call.body, problems, {"label": str, "ssh_key": str})
    check_plain_label(given.get("label"), LABEL_LENGTH, (), "", problems)
    if not is_ssh_key(given.get("ssh_key")):
        reason = "SSH Key is not a public key in OpenSSH's format"
        problems.add("ssh_key", reason if "ssh_key" in given else "ssh_key is required")
    problems.check()
    key = SshKey(call.lab.store.next_id(), given["label"], given["ssh_key"].strip())
    call.lab.store.save(key)
    return render_key(key)


async def get_key(call: Call) -> Json:
    return render_key(call.record(SshKey))


async def update_key(call: Call) -> Json:
    """Change a key's label; Linodes have the key itself."""
    key, problems = call.record(SshKey), Problems()
    label = fields(call.body, problems, {"label": str}).get("label", key.label)
    check_plain_label(label, LABEL_LENGTH, (), "", problems)
    problems.check()
    key.label = label
    call.lab.store.save(key)
    return render_key(key)


async def delete_key(call: Call) -> Json:
    call.lab.store.delete(call.record(SshKey))
    return {}


async def list_tokens(call: Call) -> Json:
    """List the account's one token, by its first characters."""
    token = {
        "id": 1,
        "label": "lab",
        "scopes": "*",
        "token": call.lab.token[:SHOWN],
        "created": call.lab.started,
        "expiry": None,
    }
    return page(call, [token], as_is, TOKEN_KEYS)


def render_key(key: SshKey) -> Json:
    """Return an SSH key as the API shows it."""
    return dict(vars(key))


ROUTES = [
    route("GET", "/profile", get_profile),
    route("GET", "/profile/sshkeys", list_keys, "list"),
    route("POST", "/profile/sshkeys", create_key),
    route("GET", "/profile/sshkeys/{id:int}", get_key),
    route("PUT", "/profile/sshkeys/{id:int}", update_key),
    route("DELETE", "/profile/sshkeys/{id:int}", delete_key),
    route("GET", "/profile/tokens", list_tokens, "list"),
]
