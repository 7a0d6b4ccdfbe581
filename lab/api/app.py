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
from lab import catalog, packet_filter
from lab import statistics as usage
from lab.addresses import Addresses
from lab.api import (
    account,
    actions,
    configs,
    control,
    disks,
    domains,
    events,
    firewalls,
    images,
    instances,
    ips,
    linode_interfaces,
    lookups,
    nodebalancer_configs,
    nodebalancer_nodes,
    nodebalancers,
    placement,
    profile,
    ranges,
    reserved_ips,
    statistics,
    subnets,
    tags,
    volumes,
    vpc_ips,
    vpcs,
)
from lab.api.wire import LastSlash, LocalOnly, http_error
from lab.balancers import Balancers, NoBalancers
from lab.faults import Faults, FaultyApi
from lab.hosts import Hosts
from lab.lifecycle import Lifecycle
from lab.limits import RateLimiter
from lab.models import AccountSettings, Address, Instance, NodeBalancer, NodeBalancerVpc, Subnet, now
from lab.settings import Settings
from lab.store import Store

ROUTES = [
    *(*lookups.ROUTES, *images.ROUTES, *account.ROUTES, *profile.ROUTES, *events.ROUTES, *tags.ROUTES),
    *(*instances.ROUTES, *actions.ROUTES, *configs.ROUTES, *linode_interfaces.ROUTES, *disks.ROUTES, *volumes.ROUTES),
    *statistics.ROUTES,
    *(*vpc_ips.ROUTES, *vpcs.ROUTES, *subnets.ROUTES, *ips.ROUTES, *reserved_ips.ROUTES, *ranges.ROUTES),
    *(*firewalls.ROUTES, *placement.ROUTES, *domains.ROUTES),
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
        self.started = now()
        self.regions = catalog.regions(settings.hosts)
        self.images = catalog.images(settings.hosts)
        self.kernels = catalog.kernels(settings.hosts)
        self.limiter = RateLimiter(settings.limits)
        records = store.all(Subnet), store.all(Instance), store.all(Address)
        self.addresses = Addresses(not settings.hosts, *records)
        for balancer in store.all(NodeBalancer):
            self.addresses.reserve_balancer(balancer, store.all(NodeBalancerVpc))
        self.faults = Faults()
        self.lifecycle = Lifecycle(store, self.addresses, hosts, self.faults)

    @property
    def account(self) -> AccountSettings:
        """What holds for the whole account."""
        return next(iter(self.store.all(AccountSettings)), AccountSettings(0))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Filter, go on with what was under way, and watch the hosts and the NodeBalancers until the end."""
        await packet_filter.apply(self.store, self.hosts)
        await self.lifecycle.recover()
        await data_plane.recover(self.store, self.balancers)
        watches = (
            self.lifecycle.watch(self.settings.watchdog_interval),
            data_plane.watch(self.store, self.balancers, self.settings.statistics_interval),
            usage.watch(self.store, self.hosts, self.settings.statistics_interval),
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
        middleware=[Middleware(LocalOnly), Middleware(LastSlash)],
        exception_handlers={HTTPException: http_error, Exception: http_error},
        lifespan=lifespan,
    )
    app.state.lab = lab
    return FaultyApi(app, lab.faults, functools.partial(control.change, lab))
