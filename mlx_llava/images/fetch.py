"""Fetch an image by its URL, from the public internet only, within limits of time and size.

URLs are untrusted text. What is guaranteed:
- Only public addresses are connected to: a host with a single private address is refused, the address that was checked
  is the one that is connected to, and each redirect is checked again.
- Nothing identifying is sent: no cookies, no credentials, no headers besides HEADERS.
- A request ends within `FetchLimits.seconds` and reads at most `FetchLimits.max_bytes`, whatever the server does.
- HTTPS certificates are verified; a redirect never leads from HTTPS to HTTP.
"""

import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from mlx_llava import __version__
from mlx_llava.errors import ImageError, LlavaError, NetworkError
from mlx_llava.images.pixels import open_image
from mlx_llava.images.public_only import dial, is_public, resolve, shut_down_at, with_timeout
from mlx_llava.program.text import clean_line

HEADERS = {"User-Agent": f"mlx-llava/{__version__}", "Accept": "image/*", "Accept-Encoding": "identity"}
PORTS = {"http": 80, "https": 443}
MOVED = (301, 302, 303, 307, 308)
CHUNK = 1 << 16
SAFE = "/%:=&?~+!$,;'@()*[]"  # characters of a URL that need no quoting
_ADVICE = "Give the URL of an image on the public internet, or save it and give its path."


@dataclass(frozen=True)
class FetchLimits:
    """Limits of one fetch."""

    seconds: float = 10.0
    """In all: name resolution, redirects and the body."""
    max_bytes: int = 20_000_000
    redirects: int = 3
    local: frozenset[str] = frozenset()
    """Addresses that are allowed without being public; for tests."""
    resolve: Callable[[str, int], Sequence[str]] = resolve


@dataclass(frozen=True)
class FetchedImage:
    """An image file from the network."""

    name: str
    url: str
    """After redirects."""
    data: bytes


LIMITS = FetchLimits()


def fetch_image(url: str, limits: FetchLimits = LIMITS) -> FetchedImage:
    """The image at a URL; ImageError if it is none or too large, NetworkError if it cannot or must not be fetched."""
    deadline = time.monotonic() + limits.seconds
    parts = _checked(url)
    for _ in range(limits.redirects + 1):
        try:
            response = _get(parts, limits, deadline)
        except (OSError, HTTPException, ValueError) as error:
            raise _unreachable(parts, error, limits, deadline) from None  # its message may contain private addresses
        if isinstance(response, bytes):
            open_image(response, "display", _shown(parts))  # an ImageError unless it can be decoded
            return FetchedImage(_name(parts), parts.geturl(), response)
        previous, parts = parts, _checked(response, parts.geturl())
        if (previous.scheme, parts.scheme) == ("https", "http"):
            raise NetworkError(f"{_shown(previous)}: redirects to a URL without encryption", _ADVICE)
    raise NetworkError(f"{_shown(parts)}: more than {limits.redirects} redirects", "Give the URL of the image itself.")


def _checked(url: str, base: str = "") -> SplitResult:
    """The parts of a URL that may be fetched; `url` may be relative to `base`."""
    try:
        parts = urlsplit(urljoin(base, url))
        usable = parts.port != 0 and bool(parts.hostname) and url.isprintable() and " " not in url
        host = (parts.hostname or "").encode("idna").decode()
    except ValueError:
        usable, parts, host = False, SplitResult("", "", "", "", ""), ""
    if not usable or parts.scheme not in PORTS or "%" in host:
        raise NetworkError(f"{clean_line(url, 120)}: not a URL that begins with http:// or https://", _ADVICE)
    if parts.username is not None or parts.password is not None:
        problem = f"{host}: the URL contains a user name or password"
        raise NetworkError(problem, "Leave it out, or save the image first.")
    return parts


def _get(parts: SplitResult, limits: FetchLimits, deadline: float) -> bytes | str:
    """The body of the response, or the location of a redirect."""
    host, port = (parts.hostname or "").encode("idna").decode(), parts.port or PORTS[parts.scheme]
    addresses = with_timeout(lambda: limits.resolve(host, port), deadline)
    if not addresses or not all(is_public(address, limits.local) for address in addresses):
        raise NetworkError(f"{_shown(parts)}: not on the public internet", _ADVICE)
    sock = dial(addresses, port, deadline)
    with closing(sock), shut_down_at(sock, deadline):
        sock.settimeout(limits.seconds)
        stream = _tls().wrap_socket(sock, server_hostname=host) if parts.scheme == "https" else sock
        with closing(HTTPConnection(host, port)) as connection:
            connection.sock, connection.auto_open = stream, 0  # never resolve the name again
            connection.request("GET", _target(parts), headers={"Host": _authority(host, port, parts), **HEADERS})
            return _answer(connection.getresponse(), parts, limits, deadline)


def _answer(response: HTTPResponse, parts: SplitResult, limits: FetchLimits, deadline: float) -> bytes | str:
    if response.status in MOVED and (location := response.headers.get("Location")):
        return location
    if response.status != 200:
        raise NetworkError(f"{_shown(parts)}: the server answered {response.status}", "Check the URL.")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise NetworkError(f"{_shown(parts)}: the response is compressed", "Save the image and give its path.")
    expected, data = response.length, bytearray()
    while len(data) <= limits.max_bytes and (expected or 0) <= limits.max_bytes:
        piece = response.read1(CHUNK)
        if time.monotonic() >= deadline:
            raise TimeoutError
        if not piece:
            if expected is not None and len(data) < expected:
                raise IncompleteRead(b"")
            return bytes(data)
        data += piece
    raise ImageError(f"{_shown(parts)}: more than {limits.max_bytes // 10**6} MB", "Give a smaller image.")


def _tls() -> ssl.SSLContext:
    """Trust the system's certificates; Python on macOS comes with none."""
    try:
        import truststore  # part of huggingface_hub's HTTP client
    except ImportError:
        return ssl.create_default_context()
    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _unreachable(parts: SplitResult, error: Exception, limits: FetchLimits, deadline: float) -> LlavaError:
    """An error that says what kind of problem it is, and no more."""
    if time.monotonic() >= deadline or isinstance(error, TimeoutError):
        problem = f"took longer than {limits.seconds:g} s"
    elif isinstance(error, ssl.SSLError):
        problem = "its certificate is not trusted"
    elif isinstance(error, socket.gaierror):
        problem = "no such host, or no network"
    else:
        problem = "cannot be reached" if isinstance(error, OSError) else "the response is not valid HTTP"
    return NetworkError(f"{_shown(parts)}: {problem}", "Check the URL, or save the image and give its path.")


def _target(parts: SplitResult) -> str:
    """The request target: path and query."""
    query = f"?{quote(parts.query, SAFE)}" if parts.query else ""
    return quote(parts.path or "/", SAFE) + query


def _authority(host: str, port: int, parts: SplitResult) -> str:
    """The Host header."""
    name = f"[{host}]" if ":" in host else host
    return name if port == PORTS[parts.scheme] else f"{name}:{port}"


def _name(parts: SplitResult) -> str:
    """The file name in the URL, or else its host."""
    return clean_line(unquote(parts.path).rstrip("/").rpartition("/")[2]) or clean_line(parts.hostname or "image")


def _shown(parts: SplitResult) -> str:
    """The URL in messages, without its query, which may hold a secret."""
    return clean_line(f"{parts.scheme}://{parts.hostname}{parts.path}", 120)
