"""Cookie jars: `sticky_client.py ORIGIN AUTHORITY urllib|http1|http2`. A line of
the standard input is `new`, for an empty jar, or a path to get."""

import sys
from http.cookiejar import CookieJar
from urllib.request import HTTPCookieProcessor, HTTPSHandler, ProxyHandler, build_opener

from common import MORE, ORIGIN, trusting

import httpx

TIMEOUT = 20


class Urllib:
    def __init__(self):
        jar = HTTPCookieProcessor(CookieJar())
        self.opener = build_opener(jar, HTTPSHandler(context=trusting()), ProxyHandler({}))

    def get(self, path):
        with self.opener.open(ORIGIN + path, timeout=TIMEOUT) as answer:
            return answer.read().decode()


class Httpx:
    def __init__(self, version):
        self.client = httpx.Client(
            base_url=ORIGIN,
            verify=trusting(),
            http1=version == "http1",
            http2=version == "http2",
            timeout=TIMEOUT,
            trust_env=False,
        )

    def get(self, path):
        return self.client.get(path).raise_for_status().text


def new():
    return Urllib() if MORE[0] == "urllib" else Httpx(MORE[0])


client = new()
for line in sys.stdin:
    order = line.strip()
    if order == "new":
        client = new()
        print("new")
    else:
        print(client.get(order))
