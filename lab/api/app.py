# SPDX-License-Identifier: GPL-3.0-or-later
"""The application: what all handlers share, and every path under /v4 and /v4beta."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Mount

from lab import balancers as data_plane
from lab import catalog
from lab.addresses import Addresses
from lab.api import (
    control,
    domains,
    events,
    instances,
    lookups,
    nodebalancer_configs,
    nodebalancer_nodes,
    nodebalancers,
    tags,
    vpcs,
)
from lab.api.wire import LocalOnly, http_error
from lab.balancers import Balancers, NoBalancers
from lab.faults import Faults, FaultyApi
from lab.hosts import Hosts
from lab.lifecycle import Lifecycle
from lab.limits import RateLimiter
from lab.models import Instance, NodeBalancer, NodeBalancerVpc, Subnet
from lab.settings import Settings
from lab.store import Store

ROUTES = [
    *(*lookups.ROUTES, *instances.ROUTES, *vpcs.ROUTES, *tags.ROUTES, *events.ROUTES, *domains.ROUTES),
    *(*nodebalancers.ROUTES, *nodebalancer_configs.ROUTES, *nodebalancer_nodes.ROUTES),
]


class Lab:
    """The account's state and all that works on it. One token opens it."""

    def __init__(
        self, settings: Settings, store: Store, hosts: Hosts, token: str, balancers: Balancers | None = None
    ) -> None:
        self.settings = settings
        self.store = store
        self.hosts = hosts
        self.balancers = balancers or NoBalancers()
        self.token = token
        self.images = catalog.images(settings.hosts)
        self.limiter = RateLimiter(settings.limits)
        self.addresses = Addresses(not settings.hosts, store.all(Subnet), store.all(Instance))
        for balancer in store.all(NodeBalancer):
            self.addresses.reserve_balancer(balancer, store.all(NodeBalancerVpc))
        self.faults = Faults()
        self.lifecycle = Lifecycle(store, self.addresses, hosts, self.faults)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Go on with what was under way, and watch the hosts and the NodeBalancers until the end."""
        await self.lifecycle.recover()
        await data_plane.recover(self.store, self.balancers)
        watches = (
            self.lifecycle.watch(self.settings.watchdog_interval),
            data_plane.watch(self.store, self.balancers, self.settings.statistics_interval),
        )
        tasks = [asyncio.create_task(watch) for watch in watches]
        yield
        for task in tasks:
            task.cancel()
        await self.lifecycle.close()
        await self.balancers.close()


def create_app(lab: Lab) -> FaultyApi:
    """Return the API over a lab."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with lab.running():
            yield

    app = Starlette(
        routes=[
            Mount("/v4", routes=ROUTES),
            Mount("/v4beta", routes=ROUTES),
            Mount("/lab", routes=control.ROUTES),
            control.PAGE_ROUTE,
        ],
        middleware=[Middleware(LocalOnly)],
        exception_handlers={HTTPException: http_error, Exception: http_error},
        lifespan=lifespan,
    )
    app.state.lab = lab
    return FaultyApi(app, lab.faults, functools.partial(control.change, lab))
