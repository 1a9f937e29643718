"""P-14: nothing that is loaded as a model runs code, and what is swapped meanwhile is not what is loaded."""

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from auterity_dagster.errors import Invalid, NotFound
from auterity_dagster.storage.object_store import ObjectStore
from tests.chaos.ledger_processes import ROOT
from tests.storage.hostile_adapters import base_of, hostile, sound_files, stored

GOOD, EVIL = b"good" * 4096, b"evil" * 4096

Reader = Callable[[ObjectStore, str, str], bytes]


def looked_at(loader: str, store: ObjectStore, sound: str, others: list[str]) -> Mapping[str, Any]:
    command = [sys.executable, "-m", "tests.chaos.hostile_loading", "--loader", loader, "--store", str(store.root)]
    done = subprocess.run([*command, sound, *others], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@dataclass
class Bundles:
    store: ObjectStore
    sound: str
    hostile: list[str]
    witness: Path


@pytest.fixture
def bundles(tmp_path: Path) -> Bundles:
    store, witness = ObjectStore(tmp_path / "objects"), tmp_path / "witness"
    files = sound_files(base_of(store))
    variants = [stored(store, variant) for variant, _words in hostile(files, witness).values()]
    return Bundles(store, stored(store, files), variants, witness)


@pytest.mark.promise("P-14")
@pytest.mark.chaos
def test_hostile_bundles_are_refused_and_a_look_at_them_does_nothing_at_chaos_size(
    bundles: Bundles, noted: dict[str, int]
) -> None:
    _nothing_happens(bundles)
    noted |= {"n": len(bundles.hostile)}


def test_hostile_bundles_are_refused_and_a_look_at_them_does_nothing(bundles: Bundles) -> None:
    _nothing_happens(bundles)


def _nothing_happens(bundles: Bundles) -> None:
    found = looked_at("checked", bundles.store, bundles.sound, bundles.hostile)

    assert found == {"loaded": [], "seen": []}
    assert not bundles.witness.exists()


@pytest.mark.promise("P-14", control=True)
@pytest.mark.control
def test_a_loader_that_takes_pickles_is_seen_to_run_them(bundles: Bundles) -> None:
    found = looked_at("pickle", bundles.store, bundles.sound, bundles.hostile)

    assert {"pickle.find_class", "exec", "write"} <= set(found["seen"])
    assert bundles.witness.exists()


@dataclass
class Race:
    """What readers saw of an object while somebody put other bytes into its place and took them away again."""

    refused: int = 0
    good: int = 0
    evil: int = 0
    swaps: int = 0
    other: list[bytes] = field(default_factory=list)

    def saw(self, data: bytes) -> None:
        if data == GOOD:
            self.good += 1
        elif data == EVIL:
            self.evil += 1
        else:
            self.other.append(data)


@contextmanager
def swapping(path: Path, race: Race) -> Iterator[None]:
    """Put another file into an object's place, and the first one back, as fast as one can, until the block ends."""
    over = threading.Event()

    def swap() -> None:
        turns = 0
        while not over.is_set():
            turns += 1
            beside = path.with_name(f"swap-{turns}")
            beside.write_bytes(EVIL if turns % 2 else GOOD)
            beside.replace(path)
        race.swaps = turns

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def by_bytes(store: ObjectStore, _bundle: str, digest: str) -> bytes:
    return store.read_verified(digest)


def by_file(store: ObjectStore, _bundle: str, digest: str) -> bytes:
    with store.open_verified(digest) as file:
        return file.read()


def by_copy(store: ObjectStore, bundle: str, _digest: str) -> bytes:
    return (store.fetch_bundle(bundle, store.root / "fetched") / "card.json").read_bytes()


def by_checkout(store: ObjectStore, bundle: str, _digest: str) -> bytes:
    return (store.checkout(bundle) / "card.json").read_bytes()


def by_name_twice(store: ObjectStore, _bundle: str, digest: str) -> bytes:
    """The negative control: look at the file, and open it once more to load it."""
    path = Path(store.path_of(digest))
    if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise Invalid("changed", code="digest_mismatch")
    return path.read_bytes()


READERS: Mapping[str, Reader] = {"bytes": by_bytes, "file": by_file, "copy": by_copy, "checkout": by_checkout}


def raced(store: ObjectStore, read: Reader, is_over: Callable[[Race], bool]) -> Race:
    bundle = stored(store, {"card.json": GOOD})
    digest = hashlib.sha256(GOOD).hexdigest()
    path = Path(store.path_of(digest))
    race = Race()
    with swapping(path, race):
        while not is_over(race):
            try:
                race.saw(read(store, bundle, digest))
            except NotFound:  # Linux links no file that is replaced at that very moment
                race.refused += 1
            except Invalid as error:
                if error.code != "digest_mismatch":
                    raise
                race.refused += 1
    return race


def _never_evil(store: ObjectStore, name: str, rounds: int) -> Race:
    # A race in which nothing was ever swapped before a read shows nothing: it goes on until that happened often.
    race = raced(store, READERS[name], lambda race: min(race.good, race.refused * 10) >= rounds or race.evil > 0)

    assert (race.evil, race.other) == (0, [])
    return race


@pytest.mark.parametrize("name", READERS)
def test_a_hundred_reads_in_a_swap_race_give_the_right_bytes_or_none(tmp_path: Path, name: str) -> None:
    _never_evil(ObjectStore(tmp_path / "objects"), name, 100)


@pytest.mark.promise("P-14")
@pytest.mark.chaos
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", READERS)
def test_ten_thousand_reads_in_a_swap_race_give_the_right_bytes_or_none(
    tmp_path: Path, name: str, noted: dict[str, int]
) -> None:
    race = _never_evil(ObjectStore(tmp_path / "objects"), name, 10_000)
    noted |= {"n": race.good, f"{name}_refused": race.refused, f"{name}_swaps": race.swaps}


@pytest.mark.promise("P-14", control=True)
@pytest.mark.control
def test_a_reader_that_opens_twice_is_given_other_bytes(tmp_path: Path) -> None:
    race = raced(ObjectStore(tmp_path / "objects"), by_name_twice, lambda race: race.evil > 0 or race.good > 100_000)

    assert race.evil > 0
