"""A picture by its address, from the public internet only.

An address comes from anybody's text, so it is asked for no more than a stranger may know: no cookies, no passwords,
nothing of this machine or its network. The address that was checked is the one that is dialled.
"""

import http.client
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from mlx_llava import __version__
from mlx_llava.errors import ImageError, LlavaError, NetworkError
from mlx_llava.images.pixels import open_image
from mlx_llava.images.public_only import cut_off, dial, in_time, is_public, resolve
from mlx_llava.program.text import clean_line

HEADERS = {"User-Agent": f"mlx-llava/{__version__}", "Accept": "image/*", "Accept-Encoding": "identity"}
PORTS = {"http": 80, "https": 443}
MOVED = (301, 302, 303, 307, 308)
PIECE = 1 << 16
KEPT = "/%:=&?~+!$,;'@()*[]"  # of an address, what need not be quoted
WITHIN = "Give the address of a picture on the public internet, or save it and give its path."


@dataclass(frozen=True)
class Limits:
    """How far a fetch may go."""

    seconds: float = 10.0
    """For everything: names, redirects, bytes."""
    max_bytes: int = 20_000_000
    redirects: int = 3
    local: frozenset[str] = frozenset()
    """Addresses that are allowed though they are not public; for tests."""
    resolve: Callable[[str, int], Sequence[str]] = resolve


@dataclass(frozen=True)
class Fetched:
    """A picture file, and what to call it."""

    name: str
    url: str
    """Where it was found in the end."""
    data: bytes


LIMITS = Limits()


def fetch_image(url: str, limits: Limits = LIMITS) -> Fetched:
    """The picture at an address; ImageError where it is none, NetworkError where it cannot or must not be fetched."""
    deadline = time.monotonic() + limits.seconds
    parts = _checked(url)
    for _ in range(limits.redirects + 1):
        try:
            found = _get(parts, limits, deadline)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _unreachable(parts, error, limits, deadline) from None  # its own words may show addresses
        if isinstance(found, bytes):
            return Fetched(_name(parts), parts.geturl(), _image(found, parts))
        before, parts = parts, _checked(found, parts.geturl())
        if (before.scheme, parts.scheme) == ("https", "http"):
            raise NetworkError(f"{_shown(before)}: leads to an address without encryption", WITHIN)
    raise NetworkError(f"{_shown(parts)}: more than {limits.redirects} redirects", "Give the picture's own address.")


def _checked(url: str, base: str = "") -> SplitResult:
    """The parts of an address that may be asked for; it may be told as seen from `base`."""
    try:
        parts = urlsplit(urljoin(base, url))
        usable = parts.port != 0 and bool(parts.hostname) and url.isprintable() and " " not in url
        host = (parts.hostname or "").encode("idna").decode()
    except ValueError:
        usable, parts, host = False, SplitResult("", "", "", "", ""), ""
    if not usable or parts.scheme not in PORTS or "%" in host:
        raise NetworkError(f"{clean_line(url, 120)}: not an address that begins with http:// or https://", WITHIN)
    if parts.username is not None or parts.password is not None:
        raise NetworkError(
            f"{host}: the address holds a name or a password", "Leave it out, or save the picture first."
        )
    return parts


def _get(parts: SplitResult, limits: Limits, deadline: float) -> bytes | str:
    """The body of the answer, or where it is instead."""
    host, port = (parts.hostname or "").encode("idna").decode(), parts.port or PORTS[parts.scheme]
    addresses = in_time(lambda: limits.resolve(host, port), deadline)
    if not addresses or not all(is_public(address, limits.local) for address in addresses):
        raise NetworkError(f"{_shown(parts)}: not on the public internet", WITHIN)
    sock = dial(addresses, port, deadline)
    with closing(sock), cut_off(sock, deadline):
        sock.settimeout(limits.seconds)
        stream = _tls().wrap_socket(sock, server_hostname=host) if parts.scheme == "https" else sock
        with closing(http.client.HTTPConnection(host, port)) as connection:
            connection.sock, connection.auto_open = stream, 0  # the name is not looked up again
            connection.request("GET", _target(parts), headers={"Host": _authority(host, port, parts), **HEADERS})
            return _answer(connection.getresponse(), parts, limits, deadline)


def _answer(response: http.client.HTTPResponse, parts: SplitResult, limits: Limits, deadline: float) -> bytes | str:
    if response.status in MOVED and (location := response.headers.get("Location")):
        return location
    if response.status != 200:
        raise NetworkError(f"{_shown(parts)}: the server answered {response.status}", "Check the address.")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise NetworkError(f"{_shown(parts)}: the server packs its answer", "Save the picture and give its path.")
    expected, data = response.length, bytearray()
    while len(data) <= limits.max_bytes and (expected or 0) <= limits.max_bytes:
        piece = response.read1(PIECE)
        if time.monotonic() >= deadline:
            raise TimeoutError
        if not piece:
            if expected is not None and len(data) < expected:
                raise http.client.IncompleteRead(b"")
            return bytes(data)
        data += piece
    raise ImageError(f"{_shown(parts)}: more than {limits.max_bytes // 10**6} MB", "Give a smaller picture.")


def _tls() -> ssl.SSLContext:
    """Trusts whom the system trusts; a Python on macOS has no certificates of its own."""
    try:
        import truststore  # part of huggingface_hub's HTTP client
    except ImportError:
        return ssl.create_default_context()
    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _unreachable(parts: SplitResult, error: Exception, limits: Limits, deadline: float) -> LlavaError:
    """What went wrong, as far as its kind."""
    if time.monotonic() >= deadline or isinstance(error, TimeoutError):
        problem = f"took longer than {limits.seconds:g} s"
    elif isinstance(error, ssl.SSLError):
        problem = "no trustworthy connection"
    elif isinstance(error, socket.gaierror):
        problem = "no such host, or no network"
    else:
        problem = "cannot be reached" if isinstance(error, OSError) else "the server's answer makes no sense"
    return NetworkError(f"{_shown(parts)}: {problem}", "Check the address, or save the picture and give its path.")


def _image(data: bytes, parts: SplitResult) -> bytes:
    """The bytes, once they are known to be a picture."""
    try:
        open_image(data, "display")
    except ImageError as error:
        raise ImageError(error.problem.replace("picture:", f"{_shown(parts)}:", 1), error.advice) from None
    return data


def _target(parts: SplitResult) -> str:
    """What to ask the server for."""
    query = f"?{quote(parts.query, KEPT)}" if parts.query else ""
    return quote(parts.path or "/", KEPT) + query


def _authority(host: str, port: int, parts: SplitResult) -> str:
    """The host as the server is told it."""
    name = f"[{host}]" if ":" in host else host
    return name if port == PORTS[parts.scheme] else f"{name}:{port}"


def _name(parts: SplitResult) -> str:
    """What to call the picture."""
    return clean_line(unquote(parts.path).rstrip("/").rpartition("/")[2]) or clean_line(parts.hostname or "picture")


def _shown(parts: SplitResult) -> str:
    """The address for people; what follows a question mark may be a secret."""
    return clean_line(f"{parts.scheme}://{parts.hostname}{parts.path}", 120)
