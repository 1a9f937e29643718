"""Which base an adapter that serves was trained on, and by which recipe, as its bundle says."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from auterity_dagster.errors import Invalid, NotFound
from auterity_dagster.storage.object_store import ObjectStore


@dataclass(frozen=True, slots=True)
class ServedBase:
    """A base by its id and by the digest of the file that it was made from; `recipe` trained the adapter."""

    recipe: str
    base_id: str
    sha256: str | None


def served_base(store: ObjectStore, artefact_digest: str) -> ServedBase | None:
    """Return what an adapter's bundle says of its base, or None where the store no longer holds either."""
    try:
        card = _document(store, artefact_digest, "card.json")
        origin = _document(store, str(card["base"]), "origin.json")
    except (NotFound, Invalid, KeyError):
        return None
    return ServedBase(str(card["recipe"]), str(origin["id"]), origin["sha256"])


def _document(store: ObjectStore, bundle: str, name: str) -> Mapping[str, Any]:
    return json.loads(store.read_verified(store.manifest(bundle).files[name].sha256))
