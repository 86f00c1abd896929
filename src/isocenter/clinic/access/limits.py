"""How often somebody may ask: token buckets in bounded memory, and from which address somebody asks."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from threading import Lock

from isocenter.core.errors import ConfigError

__all__ = ["Buckets", "Proxies", "Rate", "place_of"]


@dataclass(frozen=True)
class Rate:
    """How often.

    Args:
        each_s: Over a longer time, one in so many seconds.
        burst: At once.
    """

    each_s: float
    burst: int


class Buckets:
    """A token bucket for each of many. Where there are more than are kept, those not seen for longest are forgotten.

    Args:
        rate: How often each may ask.
        most: Buckets that are kept.
        clock: Returns seconds.
    """

    def __init__(self, rate: Rate, most: int = 20_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._most, self._clock = rate, most, clock
        self._kept: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = Lock()

    def take(self, key: str) -> float:
        """Take one; return 0, or after how many seconds there is one again."""
        now = self._clock()
        with self._lock:
            left, since = self._kept.pop(key, (float(self._rate.burst), now))
            left = min(float(self._rate.burst), left + (now - since) / self._rate.each_s)
            taken = left >= 1.0
            self._kept[key] = (left - 1.0 if taken else left, now)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return 0.0 if taken else (1.0 - left) * self._rate.each_s

    def __len__(self) -> int:
        return len(self._kept)


def place_of(address: str) -> str:
    """Return what a limit counts by: an IPv4 address, or the /64 of an IPv6 address, which belongs to one subscriber.

    Example:
        >>> place_of("2001:db8::1"), place_of("10.0.0.7")
        ('2001:db8::/64', '10.0.0.7')
    """
    try:
        found = ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(found, IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(IPv6Network((int(found) >> 64 << 64, 64)))


class Proxies:
    """Servers in front of ours whose word about the client is taken; everybody else's is not.

    Args:
        networks: Addresses or networks (CIDR).

    Raises:
        ConfigError: One is none.
    """

    def __init__(self, networks: tuple[str, ...] = ()) -> None:
        try:
            self._networks = tuple(ip_network(network) for network in networks)
        except ValueError as error:
            raise ConfigError("a proxy is an address, or a network as 10.0.0.0/8") from error

    def client(self, peer: str, headers: Mapping[str, str]) -> tuple[str, bool]:
        """Return the client's address, and whether a proxy says that it came by TLS.

        Args:
            peer: Address that the connection came from.
            headers: Of the request, names in small letters.
        """
        if not self._trusts(peer):
            return peer, False
        secure = headers.get("x-forwarded-proto", "").split(",")[-1].strip().lower() == "https"
        # Each server appends whom it was asked by: the last that is none of ours is the client; what stands before it
        # was sent by the client and may say anything.
        for hop in reversed(headers.get("x-forwarded-for", "").split(",")):
            address = hop.strip()
            if not _is_address(address):
                break
            if not self._trusts(address):
                return address, secure
        return peer, secure

    def _trusts(self, address: str) -> bool:
        if not self._networks or not _is_address(address):
            return False
        found: IPv4Address | IPv6Address = ip_address(address)
        if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return any(found.version == network.version and found in network for network in self._networks)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
