"""An ASGI service that is not ours: it says who it is, echoes over WebSocket, and shows what headers it was given."""

import asyncio
import json
import os
import socket


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message.get("text")})
    else:
        if scope["path"] in ("/slow", "/slow/changes"):
            await asyncio.sleep(2)
        answer = {
            "host": socket.gethostname(),
            "release": os.environ.get("RELEASE_ID"),
            "method": scope["method"],
            "scheme": scope["scheme"],
            "client": scope["client"][0],
            "headers": {name.decode(): value.decode() for name, value in scope["headers"]},
        }
        start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}
        await send(start)
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})
