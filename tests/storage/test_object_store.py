import json
from pathlib import Path

import pytest

from auterity_dagster.errors import Invalid, NotFound
from auterity_dagster.storage.object_store import ObjectStore


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "objects")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    (folder / "inner").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "inner" / "weights.safetensors").write_bytes(b"weights")
    return folder


def damage(store: ObjectStore, digest: str) -> None:
    path = store.root / digest[:2] / digest
    path.chmod(0o644)
    path.write_bytes(b"something else")


def test_an_object_is_named_by_its_bytes_and_read_back(store: ObjectStore) -> None:
    digest = store.put_bytes(b"hello")

    assert store.read_verified(digest) == b"hello"
    assert store.open_verified(digest).read() == b"hello"
    assert store.put_bytes(b"hello") == digest


def test_changed_bytes_are_never_handed_out(store: ObjectStore) -> None:
    digest = store.put_bytes(b"hello")

    damage(store, digest)

    for read in (store.read_verified, store.open_verified):
        with pytest.raises(Invalid) as failure:
            read(digest)
        assert failure.value.code == "digest_mismatch"


def test_a_missing_object_is_not_found(store: ObjectStore) -> None:
    with pytest.raises(NotFound):
        store.read_verified("0" * 64)


@pytest.mark.parametrize("name", ["../../etc/passwd", "ABC", ""])
def test_only_a_digest_names_an_object(store: ObjectStore, name: str) -> None:
    with pytest.raises(Invalid):
        store.read_verified(name)


def test_a_bundle_comes_back_as_it_was(store: ObjectStore, bundle: Path, tmp_path: Path) -> None:
    digest = store.put_bundle(bundle)

    fetched = store.fetch_bundle(digest, tmp_path / "fetched")

    assert (fetched / "inner" / "weights.safetensors").read_bytes() == b"weights"
    assert store.put_bundle(fetched) == digest


def test_a_damaged_file_of_a_bundle_is_refused_by_fetch_and_by_checkout(
    store: ObjectStore, bundle: Path, tmp_path: Path
) -> None:
    digest = store.put_bundle(bundle)
    store.checkout(digest)
    damage(store, store.manifest(digest).files["inner/weights.safetensors"].sha256)

    with pytest.raises(Invalid, match="promises"):
        store.fetch_bundle(digest, tmp_path / "fetched")
    with pytest.raises(Invalid, match="promises"):
        store.checkout(digest)
    assert not (tmp_path / "fetched").exists()


def test_a_checkout_with_a_foreign_file_is_refused(store: ObjectStore, bundle: Path) -> None:
    digest = store.put_bundle(bundle)
    (store.checkout(digest) / "code.py").write_text("print()")

    with pytest.raises(Invalid, match="not in its bundle"):
        store.checkout(digest)


def test_a_checkout_whose_file_was_swapped_gets_the_right_one_again(store: ObjectStore, bundle: Path) -> None:
    digest = store.put_bundle(bundle)
    swapped = store.checkout(digest) / "config.json"
    swapped.unlink()
    swapped.write_text("swapped")

    assert (store.checkout(digest) / "config.json").read_text() == "{}"


def test_a_link_is_not_stored(store: ObjectStore, bundle: Path) -> None:
    (bundle / "link").symlink_to("/etc/passwd")

    with pytest.raises(Invalid) as failure:
        store.put_bundle(bundle)

    assert failure.value.code == "unsafe_bundle"


@pytest.mark.parametrize("name", ["../outside", "/absolute", "a/../../b", "back\\slash"])
def test_a_manifest_that_leaves_its_folder_is_refused(store: ObjectStore, tmp_path: Path, name: str) -> None:
    content = store.put_bytes(b"x")
    files = {name: {"sha256": content, "bytes": 1}}
    manifest = store.put_bytes(json.dumps({"schema_version": 1, "files": files}).encode())

    with pytest.raises(Invalid) as failure:
        store.fetch_bundle(manifest, tmp_path / "fetched")

    assert failure.value.code == "unsafe_bundle"
