"""grpcio over TLS: `grpc_client.py ORIGIN AUTHORITY CASE`, a function below."""

import queue
from concurrent.futures import ThreadPoolExecutor

from common import AUTHORITY, MORE, ORIGIN, pattern

import grpc

HOST = ORIGIN.removeprefix("https://")
PORT = HOST.rpartition(":")[2]
LIMIT = 20


def unary(channel):
    echo = channel.unary_unary("/test.Echo/Echo")
    metadata = (("x-token", "abc def"), ("x-sent-bin", b"\x00\xff\x01"))
    for message in (b"hello", b"", pattern(3 << 20)):
        answer, call = echo.with_call(message, metadata=metadata, timeout=LIMIT)
        print("same" if answer == message else "changed", len(answer), call.code().name)
        print(dict(call.initial_metadata())["x-token"], sorted(dict(call.trailing_metadata()).items()))
    with ThreadPoolExecutor(20) as pool:
        asked = [b"message %d" % number for number in range(200)]
        answers = pool.map(lambda one: echo(one, metadata=metadata, timeout=LIMIT), asked)
        print("many", list(answers) == asked)


def streams(channel):
    count = channel.unary_stream("/test.Echo/Count")
    messages = list(count(b"1000", timeout=LIMIT))
    print(len(messages), messages[0].decode(), messages[-1].decode())
    print(list(count(b"0", timeout=LIMIT)))
    gather = channel.stream_unary("/test.Echo/Gather")
    print(gather(iter([b"a", b"", b"ccc"]), timeout=LIMIT).decode())
    print(gather(iter([]), timeout=LIMIT).decode())


def bidirectional(channel):
    """Each message is sent only after the answer to the one before it."""
    outgoing = queue.SimpleQueue()
    call = channel.stream_stream("/test.Echo/Chat")(iter(outgoing.get, None), timeout=LIMIT)
    for number in range(5):
        outgoing.put(b"message %d" % number)
        print(next(call).decode())
    outgoing.put(None)
    print(list(call), call.code().name, dict(call.trailing_metadata())["x-end"])


def errors(channel):
    try:
        channel.unary_unary("/test.Echo/Fail")(b"", timeout=LIMIT)
    except grpc.RpcError as error:
        trailers = dict(error.trailing_metadata())
        print(error.code().name, "-", error.details())
        print(trailers["x-reason"], trailers["grpc-status-details-bin"])
    got = []
    try:
        for message in channel.unary_stream("/test.Echo/FailMidway")(b"", timeout=LIMIT):
            got.append(message)
    except grpc.RpcError as error:
        print(got, error.code().name, "-", error.details())
    try:
        channel.unary_unary("/test.Echo/Absent")(b"", timeout=LIMIT)
    except grpc.RpcError as error:
        print(error.code().name, "-", error.details())


def deadline(channel):
    # So that it is the call that takes the time, and not the handshake.
    grpc.channel_ready_future(channel).result(timeout=LIMIT)
    call = channel.unary_stream("/test.Echo/Hang")(b"deadline", timeout=2)
    try:
        for message in call:
            print(message.decode())
    except grpc.RpcError as error:
        print(error.code().name)


def cancel(channel):
    call = channel.unary_stream("/test.Echo/Hang")(b"cancel")
    print(next(call).decode())
    # Another call on the same connection outlives it.
    outgoing = queue.SimpleQueue()
    chat = channel.stream_stream("/test.Echo/Chat")(iter(outgoing.get, None), timeout=LIMIT)
    outgoing.put(b"before")
    print(next(chat).decode())
    call.cancel()
    print(call.code().name)
    outgoing.put(b"after")
    print(next(chat).decode())
    outgoing.put(None)
    print(list(chat), chat.code().name)


def absent(channel):
    try:
        channel.unary_unary("/test.Echo/Echo")(b"", timeout=LIMIT)
    except grpc.RpcError as error:
        print(error.code().name)


with open(AUTHORITY, "rb") as file:
    credentials = grpc.ssl_channel_credentials(file.read())
options = [
    ("grpc.ssl_target_name_override", "a.test"),
    ("grpc.default_authority", HOST),
    ("grpc.enable_http_proxy", 0),
]
with grpc.secure_channel(f"ipv4:127.0.0.1:{PORT}", credentials, options) as channel:
    globals()[MORE[0]](channel)
