"""Images come from the public internet only, within limits of time and size, and nothing private is sent."""

import io
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mlx_llava.errors import ImageError, LlavaError, NetworkError
from mlx_llava.images.fetch import FetchLimits, fetch_image

LOCAL = FetchLimits(seconds=5.0, local=frozenset({"127.0.0.1"}))


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (6, 4), "red").save(file, "PNG")
    return file.getvalue()


RESPONSES: dict[str, tuple[bytes, int, dict[str, str]]] = {  # by path: body, status, headers
    "page": (b"<html>no</html>", 200, {"Content_Type": "image/png"}),
    "empty": (b"", 200, {}),
    "missing": (png(), 404, {}),
    "packed": (png(), 200, {"Content_Encoding": "gzip"}),
    "large": (b"", 200, {"Content_Length": str(10**12)}),
    "short": (png()[:-9], 200, {"Content_Length": str(len(png()))}),
    "loop": (b"", 302, {"Location": "/loop"}),
}


class Handler(BaseHTTPRequestHandler):
    """Responds by path."""

    protocol_version = "HTTP/1.1"
    asked: list[tuple[str, dict[str, str]]]

    def do_GET(self) -> None:
        self.asked.append((self.path, dict(self.headers.items())))
        self.close_connection = True
        name = self.path.partition("?")[0].split("/")[1].removesuffix(".png")
        if name in RESPONSES:
            body, status, headers = RESPONSES[name]
            self.send(body, status, **headers)
        else:
            getattr(self, name.replace(".", "_"), lambda: self.send(png()))()

    def send(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        headers = {"Content-Length": str(len(body)), **{k.replace("_", "-"): v for k, v in headers.items()}}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def away(self) -> None:
        self.send(b"", 302, Location=self.path.partition("?")[2])

    def endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(b"x" * 65536)

    def slow(self) -> None:
        self.send(b"", Content_Length="1000")
        for _ in range(100):
            self.wfile.write(b"x")
            time.sleep(0.1)

    def chunked(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(png()), png()))

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # the client closed the connection, as it should


@pytest.fixture
def asked() -> list[tuple[str, dict[str, str]]]:
    return []


@pytest.fixture
def server(asked: list[tuple[str, dict[str, str]]]) -> Iterator[str]:
    handler = type("Recording", (Handler,), {"asked": asked})
    with Server(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("path", ["/a/my%20cat.png?x=1&y=%C3%A9", "/chunked", "/a/my cat.png".replace(" ", "+")])
def test_an_image_is_fetched_whole(server: str, asked: list[tuple[str, dict[str, str]]], path: str) -> None:
    found = fetch_image(server + path, LOCAL)
    assert (found.data, found.url) == (png(), server + path)
    assert asked[0][0] == path


def test_names_are_readable(server: str) -> None:
    assert fetch_image(f"{server}/a/my%20cat%1b[2J.png", LOCAL).name == "my cat␛[2J.png"
    assert fetch_image(f"{server}/", LOCAL).name == "127.0.0.1"
    assert fetch_image(f"{server}/caf\u00e9.png", LOCAL).name == "café.png"


def test_no_private_header_is_sent(server: str, asked: list[tuple[str, dict[str, str]]]) -> None:
    fetch_image(f"{server}/cat.png", LOCAL)
    ((_, headers),) = asked
    assert headers.keys() == {"Host", "User-Agent", "Accept", "Accept-Encoding"}
    assert headers["User-Agent"].startswith("mlx-llava/")


@pytest.mark.parametrize(
    "host",
    "127.0.0.1 localhost 2130706433 0.0.0.0 10.0.0.1 192.168.1.1 169.254.169.254 100.64.0.1 224.0.0.1 [::1] "
    "[::ffff:127.0.0.1] [fe80::1] [fd00::1] [64:ff9b::7f00:1] [2002:7f00:1::]".split(),
)
def test_addresses_that_are_not_public_are_refused(host: str) -> None:
    with pytest.raises(NetworkError, match=r"not on the public internet|no such host"):
        fetch_image(f"http://{host}/cat.png")


def answers(*addresses: Sequence[str]) -> tuple[Callable[[str, int], Sequence[str]], list[str]]:
    """A resolver with a list of answers, and the hosts it was asked for."""
    asked, left = list[str](), list(addresses)

    def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return left.pop(0)

    return resolve, asked


def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    resolve, _ = answers(["8.8.8.8", "10.0.0.1"])
    with pytest.raises(NetworkError, match="not on the public internet"):
        fetch_image("http://example.org/cat.png", FetchLimits(resolve=resolve))


def test_the_checked_address_is_the_one_connected_to(server: str) -> None:
    resolve, asked = answers(["127.0.0.1"], ["127.0.0.2"])
    port = server.rpartition(":")[2]
    found = fetch_image(f"http://rebind.example:{port}/cat.png", replace(LOCAL, resolve=resolve))
    assert (found.data, asked) == (png(), ["rebind.example"])


def test_every_redirect_is_checked_again(server: str) -> None:
    port = server.rpartition(":")[2]
    resolve, asked = answers(["127.0.0.1"], ["127.0.0.1"], ["127.0.0.2"])
    url = f"http://one.example:{port}/away?http://two.example:{port}/away?http://three.example:{port}/cat.png"
    with pytest.raises(NetworkError, match="not on the public internet"):
        fetch_image(url, replace(LOCAL, resolve=resolve))
    assert asked == ["one.example", "two.example", "three.example"]
    for target in ("file:///etc/passwd", "ftp://127.0.0.1/x", "http://a:b@127.0.0.1/x", "//[", "http://127.0.0.2/"):
        with pytest.raises(NetworkError):
            fetch_image(f"{server}/away?{target}", LOCAL)


def test_redirects_are_followed_three_times(server: str) -> None:
    path = "/away?/away?/away?/cat.png"
    assert fetch_image(server + path, LOCAL).url == f"{server}/cat.png"
    for longer in (f"/away?{path}", "/loop"):
        with pytest.raises(NetworkError, match="more than 3 redirects"):
            fetch_image(server + longer, LOCAL)


@pytest.mark.parametrize(
    ("path", "kind", "problem"),
    [
        ("/page", ImageError, "/page: not an image in a supported format"),
        ("/empty", ImageError, "/empty: the file is empty"),
        ("/missing", NetworkError, "the server answered 404"),
        ("/packed", NetworkError, "the response is compressed"),
        ("/large", ImageError, "more than 20 MB"),
        ("/short", NetworkError, "not valid HTTP"),
    ],
)
def test_a_response_that_is_no_image_is_refused(server: str, path: str, kind: type[LlavaError], problem: str) -> None:
    with pytest.raises(kind) as raised:
        fetch_image(server + path, LOCAL)
    assert problem in raised.value.problem
    assert "0x" not in str(raised.value)


def test_an_endless_body_is_cut(server: str) -> None:
    with pytest.raises(ImageError, match="more than 1 MB"):
        fetch_image(f"{server}/endless", replace(LOCAL, max_bytes=1_000_000))


@pytest.mark.parametrize("where", ["body", "headers", "name"])
def test_every_part_of_a_fetch_is_limited_in_time(server: str, where: str) -> None:
    limits, url = replace(LOCAL, seconds=0.4), f"{server}/slow"
    if where == "name":
        limits = replace(limits, resolve=lambda host, port: time.sleep(3) or ["127.0.0.1"])
    with socket.create_server(("127.0.0.1", 0)) as mute:
        if where == "headers":
            url = f"http://127.0.0.1:{mute.getsockname()[1]}/cat.png"
            threading.Thread(target=drip, args=(mute,), daemon=True).start()
        started = time.monotonic()
        with pytest.raises(NetworkError, match=r"took longer than 0\.4 s"):
            fetch_image(url, limits)
        assert time.monotonic() - started < 2.0


def drip(server: socket.socket) -> None:
    """Send one byte at a time."""
    connection, _ = server.accept()
    try:
        for byte in b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 20:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)
    except OSError:
        pass


@pytest.mark.parametrize(
    "url",
    [
        *("file:///etc/passwd", "ftp://example.org/a.png", "example.org/a.png", "http://", "http:///a.png", "http://["),
        *("http://a b/c.png", "http://example.org:99999/", "http://exa\nmple.org/", "http://a..b/", "data:image/png,x"),
        *("http://user:password@example.org/a.png", "http://user@example.org/a.png", "javascript:alert(1)", ""),
    ],
)
def test_urls_of_other_kinds_are_refused_without_a_lookup(url: str) -> None:
    def resolve(host: str, port: int) -> Sequence[str]:
        raise AssertionError

    with pytest.raises(NetworkError) as raised:
        fetch_image(url, FetchLimits(resolve=resolve))
    assert "password" not in raised.value.problem.replace("or password", "")


@given(st.text())
def test_any_text_as_url_is_a_network_error(url: str) -> None:
    with pytest.raises(NetworkError):
        fetch_image(f"http://{url}", FetchLimits(resolve=lambda host, port: []))


def test_a_closed_port_cannot_be_reached(server: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(NetworkError, match="cannot be reached"):
        fetch_image(f"http://127.0.0.1:{port}/cat.png", LOCAL)


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes a certificate with openssl")
def test_https_certificates_are_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = "openssl req -x509 -newkey rsa:2048 -nodes -keyout k.pem -out c.pem -days 2 -subj /CN=localhost"
    command += " -addext subjectAltName=DNS:localhost"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "c.pem", tmp_path / "k.pem")
    limits = replace(LOCAL, resolve=lambda host, port: ["127.0.0.1"])
    with Server(("127.0.0.1", 0), type("Recording", (Handler,), {"asked": []})) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        port = server.server_address[1]
        with pytest.raises(NetworkError, match="certificate is not trusted"):
            fetch_image(f"https://localhost:{port}/cat.png", limits)
        if sys.platform == "linux":  # where a variable can name the trusted certificate
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "c.pem"))
            assert fetch_image(f"https://localhost:{port}/cat.png", limits).data == png()
            with pytest.raises(NetworkError, match="certificate is not trusted"):
                fetch_image(f"https://other.example:{port}/cat.png", limits)
            with pytest.raises(NetworkError, match="without encryption"):
                fetch_image(f"https://localhost:{port}/away?http://localhost/cat.png", limits)
        server.shutdown()
