# SPDX-License-Identifier: GPL-3.0-or-later
"""Listings: pages, and the X-Filter header's little language."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from starlette.requests import Request

from lab.api.wire import ApiError, Call
from lab.models import Json

PAGE_SIZES = range(25, 501)
DEFAULT_PAGE_SIZE = 100

Test = Callable[[Json], bool]


def page(call: Call, items: Sequence[Any], render: Callable[[Any], Json], keys: Iterable[str]) -> Json:
    """Return one page of ``items``; ``keys`` are what X-Filter may name. Raises ApiError 400."""
    number = _integer(call.request, "page", 1)
    size = _integer(call.request, "page_size", DEFAULT_PAGE_SIZE)
    if size not in PAGE_SIZES:
        raise ApiError(400, ("page_size", f"Must be {PAGE_SIZES[0]}-{PAGE_SIZES[-1]}"))
    header = call.request.headers.get("x-filter")
    if header:
        items, render = apply(header, [render(item) for item in items], frozenset(keys)), as_is
    pages = max(1, math.ceil(len(items) / size))
    if not 1 <= number <= pages:
        raise ApiError(400, ("page", f"Must be 1-{pages}"))
    shown = items[(number - 1) * size : number * size]
    return {"data": [render(item) for item in shown], "page": number, "pages": pages, "results": len(items)}


def as_is(row: Json) -> Json:
    """Return a row that is kept as the API shows it."""
    return row


def apply(header: str, rows: list[Json], keys: frozenset[str]) -> list[Json]:
    """Return the rows that an X-Filter header lets through, in its order. Raises ApiError 400."""
    try:
        query = json.loads(header)
    except ValueError:
        raise _refused("Filter not valid JSON") from None
    if not isinstance(query, dict):
        raise _refused("Filter must be a JSON object")
    order_by, order = query.pop("+order_by", None), query.pop("+order", "asc")
    if order not in ("asc", "desc"):
        raise _refused("+order must be asc or desc")
    passes = _compile(query, keys)
    found = [row for row in rows if passes(row)]
    if order_by is not None:
        if not isinstance(order_by, str) or order_by not in keys:
            raise _refused(f"Cannot order by {order_by}")
        found.sort(key=lambda row: (*_sortable(_value(row, order_by)), row.get("id", 0)), reverse=order == "desc")
    return found


def _compile(query: Any, keys: frozenset[str]) -> Test:
    if not isinstance(query, dict):
        raise _refused("+and and +or take an array of objects")
    tests = [_term(key, value, keys) for key, value in query.items()]
    return lambda row: all(test(row) for test in tests)


def _term(key: str, value: Any, keys: frozenset[str]) -> Test:
    if key in ("+and", "+or"):
        if not isinstance(value, list):
            raise _refused(f"{key} takes an array of objects")
        parts = [_compile(part, keys) for part in value]
        match = all if key == "+and" else any
        return lambda row: match(part(row) for part in parts)
    if key not in keys:
        raise _refused(f"Cannot filter on {key}")
    if not isinstance(value, dict):
        return lambda row: _equal(_value(row, key), value)
    unknown = [name for name in value if name not in _OPERATORS]
    if unknown:
        raise _refused(f"{unknown[0]} is not a filter operator")
    tests = [(_OPERATORS[name], operand) for name, operand in value.items()]
    return lambda row: all(test(_value(row, key), operand) for test, operand in tests)


def _equal(found: Any, wanted: Any) -> bool:
    """A list (tags, addresses) equals what it contains."""
    return wanted in found if isinstance(found, list) and not isinstance(wanted, list) else found == wanted


def _contains(found: Any, part: Any) -> bool:
    texts = found if isinstance(found, list) else [found]
    return any(str(part) in text for text in texts if isinstance(text, str))


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """Numbers compare with numbers and texts (dates are) with texts; anything else does not match."""

    def test(found: Any, bound: Any) -> bool:
        numbers = isinstance(found, int | float) and isinstance(bound, int | float)
        return (numbers or (isinstance(found, str) and isinstance(bound, str))) and compare(found, bound)

    return test


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "+gt": _ordered(lambda found, bound: found > bound),
    "+gte": _ordered(lambda found, bound: found >= bound),
    "+lt": _ordered(lambda found, bound: found < bound),
    "+lte": _ordered(lambda found, bound: found <= bound),
    "+neq": lambda found, wanted: not _equal(found, wanted),
    "+contains": _contains,
}


def _value(row: Json, key: str) -> Any:
    value: Any = row
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _sortable(value: Any) -> tuple[int, Any]:
    """Order null before numbers before texts, so that any two values compare."""
    if value is None:
        return 0, 0
    return (1, value) if isinstance(value, int | float) else (2, str(value))


def _integer(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise ApiError(400, (name, "Must be an integer")) from None


def _refused(reason: str) -> ApiError:
    return ApiError(400, ("X-Filter", reason))
