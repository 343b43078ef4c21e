"""websockets: `websockets_client.py ORIGIN AUTHORITY deflate|plain`."""

import asyncio

from common import MORE, ORIGIN, pattern, trusting

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

MEBIBYTE = pattern(1 << 20)


def open_socket():
    return connect(
        ORIGIN.replace("https", "wss") + "/ws/chat?room=1",
        ssl=trusting(),
        proxy=None,
        subprotocols=["chat"],
        compression="deflate" if MORE[0] == "deflate" else None,
        max_size=8 << 20,
        ping_interval=None,
    )


async def echoed(socket, message):
    await socket.send(message)
    return await socket.recv() == message


async def main():
    async with open_socket() as socket:
        names = [extension.name for extension in socket.protocol.extensions]
        print("open", socket.response.status_code, socket.subprotocol, names)
        print("text", await echoed(socket, "Grüße"), await echoed(socket, ""))
        print("long text", await echoed(socket, "na" * 100_000))
        print("binary", await echoed(socket, b"\x00\xff"))
        print("a mebibyte", await echoed(socket, MEBIBYTE))
        # In fragments, which the server puts together again.
        await socket.send([MEBIBYTE[:100_000], MEBIBYTE[100_000:100_001], MEBIBYTE[100_001:]])
        print("fragments", await socket.recv() == MEBIBYTE)
        many = [f"message {number}" for number in range(500)]
        for message in many:
            await socket.send(message)
        print("many", [await socket.recv() for _ in many] == many)
        await (await socket.ping(b"hello"))
        print("ponged")
        await socket.send("ping me")
        print("still here", await echoed(socket, "again"))
        await socket.close(4001, "good night")
        print("closed", socket.close_code, socket.close_reason)
    async with open_socket() as socket:
        await socket.send("close me")
        try:
            await socket.recv()
        except ConnectionClosed as end:
            print("closed by the server", end.rcvd.code, end.rcvd.reason)


asyncio.run(main())
