# SPDX-License-Identifier: MIT
"""Visitors who look at an item or ask for the health, one as often as the other, and pause for 1 to 5 seconds."""

import random

from locust import FastHttpUser, between, task

ITEMS = 1000  # that the reference service is made with


class Visitor(FastHttpUser):
    wait_time = between(1, 5)

    @task
    def item(self) -> None:
        self.client.get(f"/items/{random.randint(1, ITEMS)}", name="/items/{id}")

    @task
    def health(self) -> None:
        self.client.get("/health")
