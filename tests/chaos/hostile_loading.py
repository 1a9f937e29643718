"""Looks at bundles as the model server does, in a process of its own whose every act is recorded; one JSON line."""

import argparse
import json
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from auterity_dagster.errors import Invalid, NotFound
from auterity_dagster.storage.adapter_bundle import WEIGHTS, check_adapter
from auterity_dagster.storage.object_store import ObjectStore

ACTS = frozenset(
    {"exec", "compile", "os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen", "pickle.find_class"}
    | {"socket.connect", "socket.bind", "ctypes.dlopen", "import"}
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

Loader = Callable[[ObjectStore, str], None]


def takes_pickles(store: ObjectStore, digest: str) -> None:
    """The negative control: a loader that falls back to pickle where the weights are no safetensors."""
    try:
        check_adapter(store, digest)
    except Invalid:
        pickle.loads(store.read_verified(store.manifest(digest).files[WEIGHTS].sha256))


LOADERS: dict[str, Loader] = {"checked": check_adapter, "pickle": takes_pickles}


class Recorder:
    """Keeps the acts that loading data has no need of. A hook stays for the process's life, so it is switched."""

    def __init__(self) -> None:
        self.is_on = False
        self.seen: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_on:
            return
        if event in ACTS:
            self.seen.append(event)
        elif event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING:
            self.seen.append("write")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--loader", choices=sorted(LOADERS), required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("digests", nargs="+", help="the first one is sound: what it imports is imported before we look")
    arguments = parser.parse_args()
    store, load = ObjectStore(arguments.store), LOADERS[arguments.loader]
    recorder = Recorder()
    sys.addaudithook(recorder)
    sound, *others = arguments.digests
    load(store, sound)
    loaded: list[str] = []
    for digest in others:
        recorder.is_on = True
        try:
            load(store, digest)
            loaded.append(digest)
        except (Invalid, NotFound, pickle.UnpicklingError, ValueError, EOFError, KeyError, MemoryError):
            pass
        finally:
            recorder.is_on = False
    sys.stdout.write(json.dumps({"loaded": loaded, "seen": sorted(set(recorder.seen))}))


if __name__ == "__main__":
    main()
