#!/usr/bin/env python3
"""Say what one step of a rollout changes, as values of the chart; docs/delivery.md tells the steps.

    helm get values csecbridge --output json | rollout_values.py STEP VERSION DIGEST [...]

Standard input holds the values of the release as it is, or null when there is none. A step that
does not follow from them is refused: the status is 1, and the text says what has to be done first.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Values = dict[str, Any]


class RefusedError(Exception):
    """The step does not follow from what is there; the text says what does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A version of the API, by its digest; the tag is for those who read."""

    tag: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """Which versions stand, and whom callers are led to."""

    stable: Image | None
    next: Image | None = None
    strategy: str = "rolling"
    serving: str = "stable"
    weight: int = 0

    @property
    def is_promoted(self) -> bool:
        """Whether all callers are led to `next`."""
        return self.serving == "next" or self.weight == 100

    def values(self) -> Values:
        """Return it as values of the chart."""
        beside = self.next or Image(tag="", digest="")
        rollout = {
            "strategy": self.strategy,
            "serving": self.serving,
            "weight": self.weight,
            "next": {"tag": beside.tag, "digest": beside.digest},
        }
        found: Values = {"rollout": rollout}
        if self.stable is not None:
            found["image"] = {"tag": self.stable.tag, "digest": self.stable.digest}
        return {"api-service": found}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What was asked for: the version that it is about, and how."""

    version: Image
    strategy: str
    weight: int


def read(values: Values | None) -> Rollout:
    """Return what stands, by the values of the release."""
    api = (values or {}).get("api-service", {})
    rollout = api.get("rollout", {})
    return Rollout(
        stable=_image(api.get("image", {})),
        next=_image(rollout.get("next", {})),
        strategy=rollout.get("strategy", "rolling"),
        serving=rollout.get("serving", "stable"),
        weight=int(rollout.get("weight", 0)),
    )


def _image(values: Mapping[str, str]) -> Image | None:
    digest = values.get("digest", "")
    return Image(tag=values.get("tag", ""), digest=digest) if digest else None


def rolling(now: Rollout, order: Order) -> Rollout:
    """Replace what serves, pod by pod."""
    if now.next is not None:
        raise RefusedError(f"{now.next.tag} stands beside: settle or abort it first")
    return Rollout(stable=order.version)


def beside(now: Rollout, order: Order) -> Rollout:
    """Set the version beside what serves; nobody is led to it."""
    if now.stable is None:
        raise RefusedError(
            "no release says by digest what serves: deploy once with the step rolling"
        )
    if now.serving == "next" or now.weight > 0:
        raise RefusedError(f"callers are led to {_tag(now.next)}: settle or abort it first")
    if now.stable.digest == order.version.digest:
        raise RefusedError(f"{order.version.tag} is what serves")
    return Rollout(stable=now.stable, next=order.version, strategy=order.strategy)


def share(now: Rollout, order: Order) -> Rollout:
    """Lead a part of the callers to the version beside."""
    stands = _standing(now, order)
    if stands.strategy != "canary":
        raise RefusedError("a share of the calls is a canary's: blue-green is promoted whole")
    return _led(stands, weight=order.weight)


def promote(now: Rollout, order: Order) -> Rollout:
    """Lead all callers to the version beside."""
    stands = _standing(now, order)
    if stands.strategy == "canary":
        return _led(stands, weight=100)
    return _led(stands, serving="next")


def settle(now: Rollout, order: Order) -> Rollout:
    """Bring the promoted version to where the old one is, behind the backs of its callers."""
    stands = _standing(now, order)
    if not stands.is_promoted:
        raise RefusedError(f"{order.version.tag} does not serve yet: promote it first")
    return _led(stands, stable=order.version, serving=stands.serving, weight=stands.weight)


def clear(now: Rollout, order: Order) -> Rollout:
    """Lead callers to where the version is now, and end the pods beside."""
    if _standing(now, order).stable != order.version:
        raise RefusedError(f"{order.version.tag} is not settled")
    return Rollout(stable=order.version)


def abort(now: Rollout, order: Order) -> Rollout:
    """Lead all callers back, and end the pods beside."""
    return Rollout(stable=_standing(now, order).stable)


def _standing(now: Rollout, order: Order) -> Rollout:
    if now.next != order.version:
        raise RefusedError(f"{order.version.tag} does not stand beside; {_tag(now.next)} does")
    return now


def _led(
    now: Rollout, *, stable: Image | None = None, serving: str = "stable", weight: int = 0
) -> Rollout:
    return Rollout(
        stable=stable or now.stable,
        next=now.next,
        strategy=now.strategy,
        serving=serving,
        weight=weight,
    )


def _tag(image: Image | None) -> str:
    return image.tag if image else "nothing"


STEPS: Final[Mapping[str, Callable[[Rollout, Order], Rollout]]] = {
    step.__name__: step for step in (rolling, beside, share, promote, settle, clear, abort)
}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the values of one step."""
    parser = argparse.ArgumentParser(description="Say what one step of a rollout changes.")
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("version")
    parser.add_argument("digest", help="of the image api-service in this version")
    parser.add_argument("--strategy", choices=("blue-green", "canary"), default="blue-green")
    parser.add_argument("--weight", type=int, choices=range(101), default=10, metavar="0-100")
    args = parser.parse_args(argv)
    version = Image(tag=args.version, digest=args.digest)
    order = Order(version=version, strategy=args.strategy, weight=args.weight)
    try:
        step = STEPS[args.step](read(json.load(sys.stdin)), order)
    except RefusedError as exc:
        print(f"::error::{args.step}: {exc}", file=sys.stderr)
        return 1
    json.dump(step.values(), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
