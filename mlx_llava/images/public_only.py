"""Connections to public internet addresses only, each with a deadline.

The guard against server-side request forgery: addresses of this machine, private networks, link-local and multicast
ranges, and IPv6 forms that embed such an IPv4 address, count as not public. Deadlines are values of `time.monotonic`.
"""

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from queue import Empty, SimpleQueue

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: embeds an IPv4 address


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host."""
    return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def is_public(address: str, local: frozenset[str]) -> bool:
    """Whether an address is globally reachable, or among the addresses in `local`."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.sixtofour or ip.teredo:
            return False
        embedded = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in NAT64 else ip.ipv4_mapped
        ip = embedded or ip
    return str(ip) in local or (ip.is_global and not ip.is_multicast and not ip.is_reserved)


def dial(addresses: Sequence[str], port: int, deadline: float) -> socket.socket:
    """Connect to the first address that answers; the time left is shared among the addresses."""
    for remaining, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
        timeout = seconds_left(deadline) / remaining
        try:
            return socket.create_connection((address, port), timeout=timeout)
        except OSError:
            if remaining == 1:
                raise
    raise TimeoutError


def with_timeout(work: Callable[[], Sequence[str]], deadline: float) -> Sequence[str]:
    """The result of a function without a timeout of its own; TimeoutError after the deadline."""
    done: SimpleQueue[Sequence[str] | Exception] = SimpleQueue()

    def run() -> None:
        try:
            done.put(work())
        except Exception as error:  # of any kind: the caller's thread raises it
            done.put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        result = done.get(timeout=seconds_left(deadline))
    except Empty:
        raise TimeoutError from None
    if isinstance(result, Exception):
        raise result
    return result


@contextmanager
def shut_down_at(sock: socket.socket, deadline: float) -> Iterator[None]:
    """Shut a connection down at the deadline, even if bytes keep trickling in."""

    def end() -> None:
        with suppress(OSError):
            handle.shutdown(socket.SHUT_RDWR)

    with closing(sock.dup()) as handle:  # TLS takes ownership of the other one
        timer = threading.Timer(seconds_left(deadline), end)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


def seconds_left(deadline: float) -> float:
    """Seconds until the deadline; TimeoutError if it has passed."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds
