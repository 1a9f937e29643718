"""Which share of requests a deployment with a weight gets: canaries, and the arms of a comparison (A/B).

A weight below 100 % is a share of subjects. Each subject has at most one such deployment and keeps it, also while the
weight of that one grows; weights of a pool that sum to 100 leave nobody without one.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from auterity_dagster.relaycore.catalog import Deployment
from auterity_dagster.relaycore.chat import ChatRequest

WHOLE = 100
OUTSIDE_ITS_SHARE = "canary: outside its share"


@dataclass(frozen=True, slots=True)
class Split:
    """The deployments of a pool that get a share of requests, by id, and the one whose share this request is in."""

    shares: Mapping[str, float] = field(default_factory=dict[str, float])
    mine: str | None = None

    def excludes(self, deployment: Deployment) -> bool:
        """True if the deployment's share are other requests."""
        return deployment.id in self.shares and deployment.id != self.mine


NO_SPLIT = Split()


def split_of(members: Sequence[Deployment], request: ChatRequest) -> Split:
    """Return how a pool is split for a request; without a subject the request stands for itself.

    Each arm in turn takes its weight out of what the ones before it left, by a hash of the subject and its own digest:
    a new digest has other subjects, and a change of one arm's digest moves nobody from those before it.
    """
    shares: dict[str, float] = {}
    left, mine = WHOLE, None
    for one in members:
        if one.weight_percent >= WHOLE:
            continue
        percent = min(one.weight_percent, left)
        if mine is None and _place(one, request) * left < percent:
            mine = one.id
        shares[one.id] = percent / WHOLE
        left -= percent
    return Split(shares, mine) if shares else NO_SPLIT


def _place(deployment: Deployment, request: ChatRequest) -> float:
    """A number from 0 up to but not 1."""
    seed = f"{request.subject or request.id}|{deployment.artefact_digest}"
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:6]) / 2**48
