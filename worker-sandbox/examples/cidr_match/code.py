"""Tell for each address which of the given networks it lies in, the most specific first.

Networks are looked up by prefix length and not walked, so that ten thousand addresses against a
thousand networks take well under a second.
"""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv6Address

#: By version and prefix length: the first address of a network, and what stands for it.
Table = dict[int, dict[int, dict[int, list[dict]]]]

SCOPES = ("loopback", "link_local", "multicast", "unspecified", "reserved", "private", "global")


def transform(data: dict) -> dict:
    """Return {"matches": [{address, scope, networks}], "unmatched", "invalid"}."""
    invalid: list[dict] = []
    table = prepared(data["networks"], invalid)
    matches: list[dict] = []
    unmatched: list[str] = []
    for text in data["addresses"]:
        try:
            address = parsed(text)
        except ValueError as exc:
            invalid.append({"value": text, "reason": str(exc)})
            continue
        networks = networks_of(address, table)
        if networks:
            matches.append({"address": text, "scope": scope_of(address), "networks": networks})
        else:
            unmatched.append(text)
    return {"matches": matches, "unmatched": unmatched, "invalid": invalid}


def prepared(networks: list, invalid: list[dict]) -> Table:
    """Sort the networks by version and prefix length; what is none is told as invalid."""
    table: Table = {4: {}, 6: {}}
    for given in networks:
        named = {"cidr": given} if isinstance(given, str) else given
        try:
            # Bits behind the prefix are forgiven: people write 10.1.2.3/8.
            network = ipaddress.ip_network(named["cidr"].strip(), strict=False)
        except ValueError as exc:
            invalid.append({"value": named["cidr"], "reason": str(exc)})
            continue
        entry = {"cidr": str(network), "label": named.get("label")}
        first = int(network.network_address)
        places = table[network.version].setdefault(network.prefixlen, {})
        places.setdefault(first, []).append(entry)
    return table


def parsed(text: str) -> IPv4Address | IPv6Address:
    """Return the address; one that carries IPv4 inside IPv6 counts as what it carries."""
    address = ipaddress.ip_address(text.strip().strip("[]"))
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def networks_of(address: IPv4Address | IPv6Address, table: Table) -> list[dict]:
    """Return the networks that hold the address, the longest prefix first."""
    places = table[address.version]
    number, bits = int(address), address.max_prefixlen
    found: list[dict] = []
    for length in sorted(places, reverse=True):
        host_bits = bits - length
        found += places[length].get(number >> host_bits << host_bits, [])
    return found


def scope_of(address: IPv4Address | IPv6Address) -> str:
    """Return the first word of SCOPES that is true of the address."""
    traits = {
        "loopback": address.is_loopback,
        "link_local": address.is_link_local,
        "multicast": address.is_multicast,
        "unspecified": address.is_unspecified,
        "reserved": address.is_reserved,
        "private": address.is_private,
        "global": True,
    }
    return next(scope for scope in SCOPES if traits[scope])
