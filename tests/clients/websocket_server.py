"""A WebSocket server without TLS that echoes. It prints its port, and then
what it saw of each connection."""

import asyncio

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def echo(socket):
    request = socket.request
    names = [extension.name for extension in socket.protocol.extensions]
    print("open", request.path, request.headers["Host"], socket.subprotocol, names)
    try:
        async for message in socket:
            if message == "ping me":
                await (await socket.ping(b"are you there"))
                print("ponged")
            elif message == "close me":
                await socket.close(4002, "as you wish")
            else:
                await socket.send(message)
    except ConnectionClosed:
        pass
    print("closed", socket.close_code, socket.close_reason)


async def main():
    async with serve(
        echo, "127.0.0.1", 0, subprotocols=["chat"], max_size=8 << 20, ping_interval=None
    ) as server:
        print(server.sockets[0].getsockname()[1])
        await server.serve_forever()


asyncio.run(main())
