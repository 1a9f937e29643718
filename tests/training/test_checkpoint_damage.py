"""A checkpoint that is not whole is never gone on from: a hundred random damages, and the one before is taken."""

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from auterity_dagster.training.checkpoint import newest_checkpoint, seal

KEY = "a" * 64
FILES = {"adapter_model.safetensors": 900, "optimizer.pt": 1800, "rng_state.pth": 300, "trainer_state.json": 200}


def sealed(folder: Path, step: int, random: Random) -> Path:
    written = folder / f"checkpoint-{step}"
    written.mkdir()
    for name, size in FILES.items():
        (written / name).write_bytes(random.randbytes(size))
    return seal(written, folder / "checkpoints", stage_key=KEY, step=step)


def flip(path: Path, random: Random) -> None:
    data = bytearray(path.read_bytes())
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    path.write_bytes(data)


def truncate(path: Path, random: Random) -> None:
    path.write_bytes(path.read_bytes()[: random.randrange(path.stat().st_size)])


def remove(path: Path, random: Random) -> None:
    path.unlink()


def lengthen(path: Path, random: Random) -> None:
    path.write_bytes(path.read_bytes() + random.randbytes(1 + random.randrange(9)))


def add_another(path: Path, random: Random) -> None:
    path.with_suffix(".new").write_bytes(random.randbytes(5))


DAMAGES: tuple[Callable[[Path, Random], None], ...] = (flip, truncate, remove, lengthen, add_another)


def test_of_a_hundred_damaged_checkpoints_none_is_used(tmp_path: Path) -> None:
    used: list[int] = []
    for number in range(100):
        random, folder = Random(number), tmp_path / str(number)
        folder.mkdir()
        sealed(folder, 10, random)
        newest = sealed(folder, 20, random)
        # White space in the manifest changes nothing that it says: it is damaged by what cannot be read.
        damage = random.choice(DAMAGES)
        path = newest / random.choice([*FILES, "manifest.json"])
        if path.name == "manifest.json" and damage is flip:
            damage = truncate
        damage(path, random)
        found = newest_checkpoint(folder / "checkpoints", stage_key=KEY)
        used.append(found.step if found else 0)
        shutil.rmtree(folder)

    assert used == [10] * 100


@pytest.mark.parametrize("lost", [(20,), (10, 20)], ids=["newest", "both"])
def test_a_whole_checkpoint_is_used_and_none_where_all_are_damaged(tmp_path: Path, lost: tuple[int, ...]) -> None:
    folders = {step: sealed(tmp_path, step, Random(step)) for step in (10, 20)}
    whole = newest_checkpoint(tmp_path / "checkpoints", stage_key=KEY)
    for step in lost:
        (folders[step] / "optimizer.pt").unlink()

    found = newest_checkpoint(tmp_path / "checkpoints", stage_key=KEY)

    assert whole is not None
    assert whole.step == 20
    assert (found.step if found else None) == {(20,): 10, (10, 20): None}[lost]
