"""No hostile adapter is loaded: each is refused for what is wrong with it, and nothing of it has run."""

import pickle
from pathlib import Path

import pytest

from auterity_dagster.errors import Invalid, NotFound
from auterity_dagster.storage.adapter_bundle import check_adapter
from auterity_dagster.storage.object_store import ObjectStore
from tests.storage.hostile_adapters import Exploit, base_of, hostile, sound_files, stored


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "objects")


def test_a_sound_adapter_passes(store: ObjectStore) -> None:
    check_adapter(store, stored(store, sound_files(base_of(store))))


def test_every_hostile_one_is_refused_for_what_is_wrong_with_it_and_runs_nothing(
    store: ObjectStore, tmp_path: Path
) -> None:
    witness = tmp_path / "witness"
    said: dict[str, str] = {}
    variants = hostile(sound_files(base_of(store)), witness)
    for name, (files, _) in variants.items():
        with pytest.raises(Invalid) as refused:
            check_adapter(store, stored(store, files))
        assert refused.value.code == "unsafe_bundle", name
        said[name] = refused.value.message

    assert len(variants) >= 40
    assert {name: said[name] for name, (_, words) in variants.items() if words not in said[name]} == {}
    assert not witness.exists()


def test_a_size_that_is_only_claimed_is_refused_before_a_byte_is_read(store: ObjectStore) -> None:
    files = sound_files(base_of(store))

    with pytest.raises(Invalid, match="at most"):
        check_adapter(store, stored(store, files, **{"adapter_model.safetensors": 10 << 30}))
    with pytest.raises(Invalid, match="no safetensors file"):
        check_adapter(store, stored(store, files, **{"adapter_model.safetensors": 10_000}))


def test_changed_and_missing_bytes_are_refused(store: ObjectStore) -> None:
    base = base_of(store)
    digest = stored(store, sound_files(base))
    weights = store.manifest(digest).files["adapter_model.safetensors"].sha256
    path = store.root / weights[:2] / weights
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")

    with pytest.raises(Invalid, match="bytes its name promises") as changed:
        check_adapter(store, digest)
    path.unlink()
    with pytest.raises(NotFound):
        check_adapter(store, digest)

    assert changed.value.code == "digest_mismatch"


@pytest.mark.control
def test_a_loader_that_takes_pickles_runs_what_stands_in_one(tmp_path: Path) -> None:
    witness = tmp_path / "witness"

    pickle.loads(pickle.dumps(Exploit(str(witness))))

    assert witness.exists()
