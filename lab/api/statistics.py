# SPDX-License-Identifier: GPL-3.0-or-later
"""/linode/instances/{id}/stats: what a Linode used in the last day."""

from __future__ import annotations

from lab.api.wire import ApiError, Call, route
from lab.models import Instance, Json
from lab.statistics import UNAVAILABLE


async def get_stats(call: Call) -> Json:
    """Return the day's use as it was counted, [ms since 1970, value]; refused for a Linode that has none yet."""
    instance = call.record(Instance)
    if not instance.samples:
        raise ApiError(400, (None, UNAVAILABLE))
    cpu, accesses, received, sent, vpc_received, vpc_sent = (
        [[row[0], row[part]] for row in instance.samples] for part in range(1, 7)
    )
    nothing = [[row[0], 0] for row in instance.samples]  # neither swap nor IPv6 has a host of the lab
    return {
        "title": f"linode.com - {instance.label} (linode{instance.id}) - day (5 min avg)",
        "data": {
            "cpu": cpu,
            "io": {"io": accesses, "swap": nothing},
            "netv4": {"in": received, "out": sent, "private_in": vpc_received, "private_out": vpc_sent},
            "netv6": dict.fromkeys(("in", "out", "private_in", "private_out"), nothing),
        },
    }


ROUTES = [route("GET", "/linode/instances/{id:int}/stats", get_stats)]
