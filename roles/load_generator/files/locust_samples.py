# SPDX-License-Identifier: GPL-3.0-or-later
"""Beside a locustfile: each worker says every second what its users did, and spreads them over the front doors.

Locust's own table leaves out what ends after the master's last word, and has times of whole milliseconds.

The front doors are in ADDRESSES, with commas between them.
"""

from __future__ import annotations

import itertools
import os
from functools import cached_property
from typing import Any

import gevent
from locust import events
from locust.env import Environment
from locust.runners import WorkerRunner
from samples import Samples

LONGEST = 60  # characters
samples = Samples()


@events.init.add_listener
def begin(environment: Environment, **_: Any) -> None:
    runner = environment.runner
    assert isinstance(runner, WorkerRunner)
    addresses = itertools.cycle(os.environ["ADDRESSES"].split(","))
    for user in environment.user_classes:
        host: Any = cached_property(lambda _user: next(addresses))
        host.__set_name__(user, "host")
        user.host = host

    def say_every_second() -> None:
        while True:
            gevent.sleep(1)
            samples.say(runner.user_count)

    gevent.spawn(say_every_second)


@events.request.add_listener
def count(
    request_type: str, name: str, response_time: float, exception: BaseException | None, response: Any = None, **_: Any
) -> None:
    samples.count(f"{request_type} {name}", response_time, "" if exception is None else reason(exception, response))


def reason(exception: BaseException, response: Any) -> str:
    """The status, or what went wrong; a long text has numbers and addresses in it, which would make each another."""
    status = getattr(response, "status_code", 0)
    if status >= 400:
        return f"status {status}"
    number = getattr(exception, "errno", None)
    text = os.strerror(number) if isinstance(number, int) else str(exception)
    return text if 0 < len(text) <= LONGEST else type(exception).__name__


@events.quitting.add_listener
def end(**_: Any) -> None:
    samples.say(0)
