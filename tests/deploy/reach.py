"""Who reaches whom: a small evaluator of NetworkPolicies over rendered manifests.

It knows what our policies use (selectors by labels, address blocks, ports by number) and raises for
what it does not know. A connection is open when the egress of the one side and the ingress of the
other allow it; a pod that no policy selects is open, as Kubernetes has it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.deploy.charts import Manifest

Labels = Mapping[str, str]
Direction = Literal["Ingress", "Egress"]
PLATFORM = "csb-app"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One end of a connection: a pod of a namespace, or an address outside the cluster."""

    name: str
    namespace: str | None = None
    labels: Labels = field(default_factory=dict)
    address: str | None = None


def reaches(policies: Sequence[Manifest], source: Place, target: Place, port: int) -> bool:
    """Whether a TCP connection from one place to a port of the other is open."""
    return _allows(policies, "Egress", source, target, port) and _allows(
        policies, "Ingress", target, source, port
    )


def _allows(
    policies: Iterable[Manifest], direction: Direction, own: Place, other: Place, port: int
) -> bool:
    if own.namespace is None:
        return True
    selecting = [
        policy["spec"]
        for policy in policies
        if direction in policy["spec"]["policyTypes"]
        and policy["metadata"].get("namespace", PLATFORM) == own.namespace
        and _selects(policy["spec"]["podSelector"], own.labels)
    ]
    if not selecting:
        return True
    peers = "to" if direction == "Egress" else "from"
    return any(
        _port_is_open(rule, port) and _has_peer(rule.get(peers), other, own)
        for spec in selecting
        for rule in spec.get(direction.lower(), [])
    )


def _port_is_open(rule: Mapping[str, Any], port: int) -> bool:
    ports = rule.get("ports")
    return not ports or any(p["port"] == port and p["protocol"] == "TCP" for p in ports)


def _has_peer(peers: Sequence[Mapping[str, Any]] | None, other: Place, own: Place) -> bool:
    return not peers or any(_is_peer(peer, other, own) for peer in peers)


def _is_peer(peer: Mapping[str, Any], other: Place, own: Place) -> bool:
    if "ipBlock" in peer:
        return other.address is not None and _holds(peer["ipBlock"], other.address)
    if other.namespace is None:
        return False
    if "namespaceSelector" in peer:
        labels = {"kubernetes.io/metadata.name": other.namespace}
        if not _selects(peer["namespaceSelector"], labels):
            return False
    elif other.namespace != own.namespace:
        return False
    return _selects(peer.get("podSelector", {}), other.labels)


def _holds(block: Mapping[str, Any], address: str) -> bool:
    ip = ipaddress.ip_address(address)
    return ip in ipaddress.ip_network(block["cidr"]) and not any(
        ip in ipaddress.ip_network(out) for out in block.get("except", [])
    )


def _selects(selector: Mapping[str, Any], labels: Labels) -> bool:
    if selector.keys() - {"matchLabels"}:
        raise ValueError(f"a selector by {set(selector)} is more than this knows")
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
