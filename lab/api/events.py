# SPDX-License-Identifier: GPL-3.0-or-later
"""/account/events: what happened and happens, newest first."""

from __future__ import annotations

import time

from lab.api.access import USERNAME
from lab.api.listing import page
from lab.api.wire import Call, route
from lab.models import Event, Json

KEYS = (
    *("id", "action", "created", "entity.id", "entity.type", "percent_complete"),
    *("rate", "read", "seen", "status", "username"),
)
USUAL_SECONDS = 6.0  # what an action takes; for the progress of one under way


async def list_events(call: Call) -> Json:
    return page(call, call.lab.store.all(Event)[::-1], render, KEYS)


async def get_event(call: Call) -> Json:
    return render(call.record(Event))


async def mark_seen(call: Call) -> Json:
    """Mark an event and all before it as seen."""
    last = call.record(Event)
    unseen = [event for event in call.lab.store.all(Event) if event.id <= last.id and not event.seen]
    for event in unseen:
        event.seen = True
    call.lab.store.save(*unseen)
    return {}


def render(event: Event) -> Json:
    """Return an event as the API shows it."""
    duration = (event.ended or time.time()) - event.started if event.started else None
    percent = 100 if event.ended else min(99, int((duration or 0) / USUAL_SECONDS * 100))
    return {
        "id": event.id,
        "created": event.created,
        "seen": event.seen,
        "read": event.seen,
        "percent_complete": percent,
        "time_remaining": 0 if event.ended else None,
        "rate": None,
        "duration": duration,
        "action": event.action,
        "username": USERNAME,
        "entity": event.entity,
        "secondary_entity": event.secondary_entity,
        "status": event.status,
        "message": event.message,
    }


ROUTES = [
    route("GET", "/account/events", list_events, "list"),
    route("GET", "/account/events/{id:int}", get_event),
    route("POST", "/account/events/{id:int}/seen", mark_seen),
]
