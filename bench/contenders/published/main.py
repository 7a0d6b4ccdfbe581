"""The published design: a client of its own for each request, no database, no cache. Two calls out, made at once."""

import asyncio
import os

import httpx
import uvloop
from fastapi import FastAPI

uvloop.install()
app = FastAPI()
UPSTREAM = os.environ["UPSTREAM_URL"]


async def post(client: httpx.AsyncClient, number: int):
    try:
        answer = await client.get(f"{UPSTREAM}/posts/{number}", timeout=5.0)
        answer.raise_for_status()
        return answer.json()
    except httpx.HTTPStatusError as error:
        return {"error": f"External service returned status {error.response.status_code}"}
    except httpx.RequestError:
        return {"error": "External service unavailable"}


@app.get("/items/{item_id}")
async def read_item(item_id: int):
    async with httpx.AsyncClient() as client:
        main, related = await asyncio.gather(post(client, item_id), post(client, item_id + 1))
    return {"main_item": main, "related_item": related}


@app.get("/health")
async def health():
    return {"status": "ok"}
