# SPDX-License-Identifier: GPL-3.0-or-later
"""/domains: zones and their records, kept and checked. The lab answers no DNS query for them."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from lab.api.labels import check_tags, new_tags
from lab.api.listing import page
from lab.api.wire import ApiError, Call, Problems, fields, route
from lab.models import Domain, DomainRecord, Json, now

KEYS = ("id", "domain", "group", "tags")
RECORD_KEYS = ("id", "name", "type", "target", "tag")
NAME_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
NAME = re.compile(rf"{NAME_PART}(?:\.{NAME_PART})*\.?")
DOMAIN_FIELDS = {
    **{"soa_email": str, "description": str, "group": str, "status": str, "tags": list},
    **{"master_ips": list, "axfr_ips": list, "ttl_sec": int, "retry_sec": int, "refresh_sec": int, "expire_sec": int},
}
RECORD_FIELDS = {
    **{"name": str, "target": str, "service": str, "protocol": str, "tag": str},
    **{"priority": int, "weight": int, "port": int, "ttl_sec": int},
}
RECORD_TYPES = ("A", "AAAA", "NS", "MX", "CNAME", "TXT", "SRV", "CAA")
STATUSES = ("active", "disabled")
DEFAULT_TTL = 86_400
NAME_SERVERS = [f"ns{number}.linode.com" for number in range(1, 6)]


async def list_domains(call: Call) -> Json:
    return page(call, call.lab.store.all(Domain), render, KEYS)


async def create_domain(call: Call) -> Json:
    store, problems = call.lab.store, Problems()
    name, kind = _new_name(call, problems), call.body.get("type")
    if kind not in ("master", "slave"):
        problems.add("type", "type is required" if kind is None else "Must be one of master, slave")
    given = _domain_fields(call.body, problems)
    if kind == "master" and not given.get("soa_email"):
        problems.add("soa_email", "soa_email required when type=master")
    if kind == "slave" and not given.get("master_ips"):
        problems.add("master_ips", "At least one master IP is required when type=slave")
    problems.check()
    domain = Domain(store.next_id(), name, str(kind), **given)
    store.save(domain, *new_tags(store, domain.tags))
    return render(domain)


async def get_domain(call: Call) -> Json:
    return render(call.record(Domain))


async def update_domain(call: Call) -> Json:
    domain, problems = call.record(Domain), Problems()
    given = _domain_fields(call.body, problems)
    problems.check()
    for name, value in given.items():
        setattr(domain, name, value)
    call.lab.store.save(domain, *new_tags(call.lab.store, domain.tags))
    return render(domain)


async def delete_domain(call: Call) -> Json:
    """Delete a domain with its records."""
    domain = call.record(Domain)
    for item in (*_records(call, domain), domain):
        call.lab.store.delete(item)
    return {}


async def clone_domain(call: Call) -> Json:
    """Copy a domain, with its records, to another name."""
    domain, problems, store = call.record(Domain), Problems(), call.lab.store
    name = _new_name(call, problems)
    problems.check()
    copy = Domain(**{**vars(domain), "id": store.next_id(), "domain": name, "tags": list(domain.tags)})
    records = [
        DomainRecord(**{**vars(item), "id": store.next_id(), "domain_id": copy.id}) for item in _records(call, domain)
    ]
    store.save(copy, *records)
    return render(copy)


async def get_zone_file(call: Call) -> Json:
    """Return a domain as the lines of a zone file."""
    domain = call.record(Domain)
    ttl, mail = domain.ttl_sec or DEFAULT_TTL, domain.soa_email.replace("@", ".")
    lines = [
        f"; {domain.domain} [{domain.id}]",
        f"$TTL {ttl}",
        f"@ IN SOA {NAME_SERVERS[0]}. {mail}. {domain.id} {domain.refresh_sec or 14400} {domain.retry_sec or 14400}"
        f" {domain.expire_sec or 1209600} {ttl}",
        *(f"@ NS {server}." for server in NAME_SERVERS),
        *(_zone_line(item) for item in _records(call, domain)),
    ]
    return {"zone_file": lines}


async def list_records(call: Call) -> Json:
    return page(call, _records(call, call.record(Domain)), render_record, RECORD_KEYS)


async def create_record(call: Call) -> Json:
    domain, problems = call.record(Domain), Problems()
    kind = call.body.get("type")
    if kind not in RECORD_TYPES:
        wrong = f"Must be one of {', '.join(RECORD_TYPES)}"
        problems.add("type", "type is required" if kind is None else wrong)
    given = {**({"protocol": "tcp"} if kind == "SRV" else {}), **fields(call.body, problems, RECORD_FIELDS)}
    record = DomainRecord(call.lab.store.next_id(), domain.id, str(kind), **given)
    _check(call, domain, record, problems)
    call.lab.store.save(record)
    return render_record(record)


async def get_record(call: Call) -> Json:
    return render_record(_record(call))


async def update_record(call: Call) -> Json:
    """Change a record; its type is for ever."""
    record, problems = _record(call), Problems()
    given = fields(call.body, problems, RECORD_FIELDS)
    changed = DomainRecord(**{**vars(record), **given, "updated": now()})
    _check(call, call.record(Domain), changed, problems)
    call.lab.store.save(changed)
    return render_record(changed)


async def delete_record(call: Call) -> Json:
    call.lab.store.delete(_record(call))
    return {}


def render(domain: Domain) -> Json:
    """Return a domain as the API shows it."""
    return dict(vars(domain))


def render_record(record: DomainRecord) -> Json:
    """Return a domain's record as the API shows it."""
    return {name: value for name, value in vars(record).items() if name != "domain_id"}


def _new_name(call: Call, problems: Problems) -> str:
    """Return the name of the request's domain; note what is wrong with it."""
    name = call.body.get("domain")
    if not isinstance(name, str) or not _is_name(name) or "." not in name:
        problems.add("domain", "domain is required" if name is None else "domain is not valid")
    elif name in (item.domain for item in call.lab.store.all(Domain)):
        problems.add("domain", "Domain already exists")
    return str(name)


def _zone_line(record: DomainRecord) -> str:
    """Return a record as a line of a zone file."""
    name, value = record.name or "@", record.target
    if record.type == "MX":
        value = f"{record.priority} {value}"
    elif record.type == "SRV":
        name = f"_{record.service}._{record.protocol}".replace("__", "_")
        value = f"{record.priority} {record.weight} {record.port} {value}"
    elif record.type == "CAA":
        value = f'0 {record.tag} "{value}"'
    elif record.type == "TXT":
        value = f'"{value}"'
    return f"{name} {record.type} {value}"


def _records(call: Call, domain: Domain) -> list[DomainRecord]:
    return [item for item in call.lab.store.all(DomainRecord) if item.domain_id == domain.id]


def _record(call: Call) -> DomainRecord:
    return call.child(DomainRecord, "record_id", "domain_id", call.record(Domain))


def _domain_fields(body: Json, problems: Problems) -> Json:
    given = fields(body, problems, DOMAIN_FIELDS)
    problems.choose("status", given.get("status", "active"), STATUSES)
    if "tags" in given:
        given["tags"] = check_tags(given["tags"], problems)
    return given


def _check(call: Call, domain: Domain, record: DomainRecord, problems: Problems) -> None:
    """Refuse a record that cannot be. Raises ApiError 400."""
    if record.name and not _is_name(record.name.removeprefix("*.").replace("*", "x")):
        problems.add("name", "Invalid hostname")
    if not record.target:
        problems.add("target", "target is required")
    elif record.type in ("A", "AAAA"):
        try:
            (IPv4Address if record.type == "A" else IPv6Address)(record.target)
        except ValueError:
            problems.add("target", f"Must be a valid {'IPv4' if record.type == 'A' else 'IPv6'} address")
    elif record.type in ("CNAME", "NS", "MX", "SRV") and not _is_name(record.target):
        problems.add("target", "Invalid hostname")
    if record.type == "SRV" and not record.service:
        problems.add("service", "service is required for SRV records")
    if record.type == "CAA":
        problems.choose("tag", record.tag, ("issue", "issuewild", "iodef"))
    problems.check()
    for other in _records(call, domain):
        if other.id == record.id or other.name != record.name:
            continue
        if "CNAME" in (record.type, other.type):
            raise ApiError(400, ("name", "A CNAME cannot share its name with another record"))
        if (other.type, other.target) == (record.type, record.target) and record.type != "SRV":
            raise ApiError(400, ("target", "This record already exists"))


def _is_name(text: Any) -> bool:
    return isinstance(text, str) and len(text) <= 253 and NAME.fullmatch(text) is not None


ROUTES = [
    route("GET", "/domains", list_domains, "list"),
    route("POST", "/domains", create_domain),
    route("GET", "/domains/{id:int}", get_domain),
    route("PUT", "/domains/{id:int}", update_domain),
    route("DELETE", "/domains/{id:int}", delete_domain),
    route("POST", "/domains/{id:int}/clone", clone_domain),
    route("GET", "/domains/{id:int}/zone-file", get_zone_file),
    route("GET", "/domains/{id:int}/records", list_records, "list"),
    route("POST", "/domains/{id:int}/records", create_record),
    route("GET", "/domains/{id:int}/records/{record_id:int}", get_record),
    route("PUT", "/domains/{id:int}/records/{record_id:int}", update_record),
    route("DELETE", "/domains/{id:int}/records/{record_id:int}", delete_record),
]
