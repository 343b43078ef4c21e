"""What the Python clients share. Each is called `SCRIPT ORIGIN AUTHORITY …`
and prints what it got; the tests compare that."""

import socket
import ssl
import sys

ORIGIN, AUTHORITY, *MORE = sys.argv[1:]
_resolve = socket.getaddrinfo


def _loopback(host, *more, **named):
    """The names of the tests live on loopback."""
    return _resolve("127.0.0.1" if host in ("a.test", b"a.test") else host, *more, **named)


socket.getaddrinfo = _loopback


def trusting():
    """A TLS context that believes the tests' authority and nobody else, as
    strictly as newer Pythons do by themselves."""
    context = ssl.create_default_context(cafile=AUTHORITY)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def pattern(length):
    """Bytes that differ at every place a mistake could shift them to."""
    return b"".join(number.to_bytes(4, "big") for number in range(length // 4))
