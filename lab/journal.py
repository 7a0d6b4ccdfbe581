# SPDX-License-Identifier: GPL-3.0-or-later
"""The account's events: what they are about, and how they begin.

Data: an Event with its entity, as the API shows both. Flow: the lifecycle and handlers -> a new Event -> the store.
"""

from __future__ import annotations

import time

from lab.models import Event, Instance, Json, NodeBalancer, Volume
from lab.store import Store

KEPT_EVENTS = 10_000


def linode(instance: Instance) -> Json:
    url = f"/v4/linode/instances/{instance.id}"
    return {"id": instance.id, "type": "linode", "label": instance.label, "url": url}


def nodebalancer(balancer: NodeBalancer) -> Json:
    url = f"/v4/nodebalancers/{balancer.id}"
    return {"id": balancer.id, "type": "nodebalancer", "label": balancer.label, "url": url}


def volume(item: Volume) -> Json:
    return {"id": item.id, "type": "volume", "label": item.label, "url": f"/v4/volumes/{item.id}"}


def image(image_id: str, label: str) -> Json:
    return {"id": image_id, "type": "image", "label": label, "url": f"/v4/images/{image_id}"}


def new(store: Store, action: str, entity: Json, secondary: Json | None = None) -> Event:
    """Return a new event, not saved yet; the oldest give way when there are very many."""
    events = store.all(Event)
    if len(events) > KEPT_EVENTS:
        store.delete(*[old for old in events[: KEPT_EVENTS // 10] if old.ended])
    return Event(store.next_id(), action, entity, secondary)


def notice(store: Store, action: str, entity: Json, secondary: Json | None = None) -> Event:
    """Return a notification, not saved yet, of something that is done already."""
    event = done(store, action, entity, secondary)
    event.status = "notification"
    return event


def done(store: Store, action: str, entity: Json, secondary: Json | None = None) -> Event:
    """Return the event, not saved yet, of something that took no time."""
    event = new(store, action, entity, secondary)
    event.status, event.started, event.ended = "finished", time.time(), time.time()
    return event
