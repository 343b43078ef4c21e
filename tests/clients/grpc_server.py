"""A gRPC server without TLS. Messages are plain bytes, so that there is no
generated code. It prints its port, and then what it saw."""

import threading
from concurrent import futures

import grpc


def metadata(context):
    return dict(context.invocation_metadata())


def echo(message, context):
    sent = metadata(context)
    context.send_initial_metadata((("x-token", sent["x-token"]),))
    context.set_trailing_metadata((("x-end", "the end"), ("x-end-bin", sent["x-sent-bin"])))
    return message


def count(message, context):
    for number in range(int(message)):
        yield b"number %d" % number


def gather(messages, context):
    pieces = list(messages)
    return b"%d: %s" % (len(pieces), b",".join(pieces))


def chat(messages, context):
    for message in messages:
        yield b"re: " + message
    context.set_trailing_metadata((("x-end", "good bye"),))


def fail(message, context):
    details = ("grpc-status-details-bin", b"\x08\x05\x12\x00\xff")
    context.set_trailing_metadata((("x-reason", "it was never there"), details))
    context.abort(grpc.StatusCode.NOT_FOUND, "no 100% such thing: ü")


def fail_midway(message, context):
    yield b"one"
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no more")


def hang(message, context):
    """Sends one message and waits until the call ends."""
    ended = threading.Event()
    context.add_callback(ended.set)
    print("time limit" if context.time_remaining() < 1000 else "no time limit", flush=True)
    yield b"begun"
    ended.wait(20)
    print("ended:", message.decode(), context.is_active(), flush=True)


methods = {
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Gather": grpc.stream_unary_rpc_method_handler(gather),
    "Chat": grpc.stream_stream_rpc_method_handler(chat),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "FailMidway": grpc.unary_stream_rpc_method_handler(fail_midway),
    "Hang": grpc.unary_stream_rpc_method_handler(hang),
}
server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", methods),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
server.wait_for_termination()
