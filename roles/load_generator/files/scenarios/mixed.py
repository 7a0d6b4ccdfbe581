# SPDX-License-Identifier: MIT
"""What the reference service can do, in the proportions of a shop: most read, some of it past the cache; few write."""

import random

from locust import FastHttpUser, between, task

ITEMS = 1000  # that the reference service is made with
POPULAR = 100
POLL = 10  # seconds


def item(most: int = ITEMS) -> str:
    return f"/items/{random.randint(1, most)}"


class Customer(FastHttpUser):
    wait_time = between(1, 5)
    network_timeout = 60.0

    @task(60)
    def look_at_a_popular_item(self) -> None:
        self.client.get(item(POPULAR), name="/items/{id}")

    @task(10)
    def look_past_the_cache(self) -> None:
        self.client.get(f"{item()}?source=replica", name="/items/{id}?source=replica")

    @task(5)
    def write_an_item(self) -> None:
        self.client.put(item(), json={"name": "written by a load test", "price_cents": 100}, name="/items/{id}")

    @task(5)
    def wait_for_a_change(self) -> None:
        self.client.get(f"{item(POPULAR)}/changes?timeout={POLL}", name="/items/{id}/changes")

    @task(20)
    def fetch_the_page(self) -> None:
        self.client.get("/static/")
