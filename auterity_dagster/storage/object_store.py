"""Content-addressed files: an object's name is the SHA-256 of its bytes, and every read checks it.

A bundle (a folder of files, such as an adapter) is itself an object: a manifest that names each file's digest and size;
the manifest's digest is the bundle's. Objects are written beside their place, synced, renamed, and never changed.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from auterity_dagster.errors import Invalid, NotFound

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20
MANIFEST_LIMIT = 1 << 20


class StoredFile(BaseModel):
    """One file of a bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class BundleManifest(BaseModel):
    """The files of a bundle by relative path, and what kind of thing it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = Field(default=1, ge=1, le=1)
    files: Mapping[str, StoredFile]


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """Objects below one folder; safe for several processes at once."""

    root: Path

    def put_bytes(self, data: bytes) -> str:
        """Store bytes and return their digest."""
        digest = hashlib.sha256(data).hexdigest()
        with tempfile.TemporaryDirectory(dir=self._incoming()) as folder:
            path = Path(folder) / "object"
            path.write_bytes(data)
            self._adopt(path, digest)
        return digest

    def put_file(self, path: Path) -> str:
        """Copy a file into the store and return its digest, computed over the bytes that were copied."""
        with tempfile.TemporaryDirectory(dir=self._incoming()) as folder:
            copy = Path(folder) / "object"
            with path.open("rb") as source, copy.open("wb") as target:
                digest = _copy(source, target)
            self._adopt(copy, digest)
        return digest

    def put_lines(self, lines: Iterable[str]) -> str:
        """Store JSON lines, one a line with a final line feed, and return their digest."""
        return self.put_bytes("".join(f"{line}\n" for line in lines).encode())

    def read_verified(self, digest: str) -> bytes:
        """Return an object's bytes. Raises `NotFound`, or `Invalid(code="digest_mismatch")` if they were changed."""
        data = self._existing(digest).read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise _changed(digest)
        return data

    def read_lines(self, digest: str) -> list[str]:
        """Return the lines of an object of JSON lines, verified."""
        return self.read_verified(digest).decode().splitlines()

    def open_verified(self, digest: str) -> BinaryIO:
        """Open an object at its start after checking the very file that is handed out; same errors as reading."""
        return _verified(self._existing(digest), digest)

    def put_bundle(self, folder: Path) -> str:
        """Store every file below a folder and return the bundle's digest; links and special files are refused."""
        files: dict[str, StoredFile] = {}
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise Invalid(f"{path} is neither a plain file nor a folder", code="unsafe_bundle")
            if path.is_file():
                digest = self.put_file(path)
                files[path.relative_to(folder).as_posix()] = StoredFile(sha256=digest, bytes=path.stat().st_size)
        text = json.dumps(BundleManifest(files=files).model_dump(), sort_keys=True, separators=(",", ":"))
        return self.put_bytes(text.encode())

    def manifest(self, digest: str) -> BundleManifest:
        """Return a bundle's manifest, verified; paths that leave the folder are refused."""
        data = self.read_verified(digest)
        if len(data) > MANIFEST_LIMIT:
            raise Invalid(f"{digest} is no bundle: {len(data)} bytes of manifest", code="unsafe_bundle")
        try:
            manifest = BundleManifest.model_validate_json(data)
        except ValidationError as error:
            raise Invalid(f"{digest} is no bundle", code="unsafe_bundle") from error
        for name in manifest.files:
            path = PurePosixPath(name)
            if path.is_absolute() or not path.parts or ".." in path.parts or "\\" in name:
                raise Invalid(f"bundle {digest} names a file outside its folder: {name!r}", code="unsafe_bundle")
        return manifest

    def fetch_bundle(self, digest: str, folder: Path) -> Path:
        """Copy a bundle's files into a folder that gets exactly those files, each verified as it is copied."""
        manifest = self.manifest(digest)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as temporary:
            fetched = Path(temporary) / "bundle"
            fetched.mkdir()
            for name, file in manifest.files.items():
                target = fetched / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with self._existing(file.sha256).open("rb") as source, target.open("wb") as copy:
                    if _copy(source, copy) != file.sha256:
                        raise _changed(file.sha256)
            if folder.exists():
                shutil.rmtree(folder)
            fetched.rename(folder)
        return folder

    def checkout(self, digest: str) -> Path:
        """Return a folder with a bundle's files, shared by all readers; every file is verified at every call.

        The files are links to the read-only objects: a large base is neither copied nor kept twice. What is verified
        is the link, so that an object that is swapped meanwhile is not what a reader finds.
        """
        manifest = self.manifest(digest)
        folder = self.root / "checkouts" / digest
        for name, file in manifest.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._incoming()) as temporary:
                link = Path(temporary) / "link"
                _link(self._existing(file.sha256), link)
                _verified(link, file.sha256).close()
                if not (target.exists() and target.samefile(link)):
                    link.replace(target)
        if {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} != set(manifest.files):
            raise Invalid(f"{folder} holds files that are not in its bundle", code="digest_mismatch")
        return folder

    def path_of(self, digest: str) -> str:
        """Return where an object lies, for a person to open. Raises `NotFound`."""
        return str(self._existing(digest))

    def has(self, digest: str) -> bool:
        """True if an object with this digest is stored (its bytes are checked when they are read)."""
        return self._path(digest).is_file()

    def _adopt(self, path: Path, digest: str) -> None:
        target = self._path(digest)
        if target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        path.chmod(0o444)
        _sync(path)
        path.replace(target)
        _sync(target.parent)

    def _incoming(self) -> Path:
        folder = self.root / "incoming"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _path(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise Invalid(f"{digest!r} is no SHA-256 digest", field="digest")
        return self.root / digest[:2] / digest

    def _existing(self, digest: str) -> Path:
        path = self._path(digest)
        if not path.is_file():
            raise NotFound(f"no object {digest} in {self.root}")
        return path


def _verified(path: Path, digest: str) -> BinaryIO:
    file = path.open("rb")
    if hashlib.file_digest(file, "sha256").hexdigest() != digest:
        file.close()
        raise _changed(digest)
    file.seek(0)
    return file


def _link(source: Path, link: Path) -> None:
    try:
        link.hardlink_to(source)
    except FileNotFoundError as error:
        raise NotFound(f"the object {source.name} was taken away while it was linked") from error


def _copy(source: BinaryIO, target: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _changed(digest: str) -> Invalid:
    return Invalid(f"object {digest} does not have the bytes its name promises", code="digest_mismatch")
