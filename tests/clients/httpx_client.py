"""httpx: `httpx_client.py ORIGIN AUTHORITY http1|http2`."""

from common import MORE, ORIGIN, pattern, trusting

import httpx

BODY = pattern(4 << 20)


def page(client):
    answer = client.get("/greeting", params={"name": "Zoë & co"})
    print(answer.http_version, answer.status_code, answer.text)


def upload(client):
    answer = client.post("/mirror", content=BODY)
    print("upload of known length", answer.http_version, answer.content == BODY)
    blocks = (BODY[start : start + 50_000] for start in range(0, len(BODY), 50_000))
    answer = client.post("/mirror", content=blocks)
    print("upload of unknown length", answer.http_version, answer.content == BODY)


def streaming(client):
    """Each part is sent only after the one before it was acknowledged."""
    with client.stream("GET", "/parts") as answer:
        print("streaming", answer.http_version, answer.headers["content-type"])
        for number, part in enumerate(answer.iter_raw(), 1):
            print(part.decode())
            print(client.get(f"/mark/part-{number}").text)


def streaming_upload(client):
    """The second piece leaves only after the backend has seen the first."""

    def pieces():
        yield b"first"
        print("the first piece:", client.get("/wait/first").text)
        yield b"second"

    print(client.post("/pieces", content=pieces()).text)


def cookies(client):
    print("cookie", client.get("/cookie").text)
    print(client.get("/whoami").text)


version = MORE[0]
with httpx.Client(
    base_url=ORIGIN,
    verify=trusting(),
    http1=version == "http1",
    http2=version == "http2",
    timeout=20,
    trust_env=False,
) as client:
    page(client)
    upload(client)
    streaming(client)
    streaming_upload(client)
    cookies(client)
