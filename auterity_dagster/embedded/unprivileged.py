"""Root starts servers as a user without rights, who must be able to reach their binaries and their data."""

import os
import pwd
import shutil
import stat
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TypedDict

from auterity_dagster.errors import ConfigurationInvalid

USER = "nobody"
SHARED_FOLDER = Path("/var/lib/auterity")
"""Root's own folder for what the unprivileged user must reach when the project lies under a private folder."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The user and group that a server runs as."""

    user: int
    group: int


class Ownership(TypedDict):
    """What `subprocess` and `asyncio` take to start a process as somebody else."""

    user: int | None
    group: int | None
    extra_groups: tuple[int, ...] | None


def ownership(identity: Identity | None) -> Ownership:
    """How to start a process as `identity`, or as ourselves."""
    if identity is None:
        return {"user": None, "group": None, "extra_groups": None}
    return {"user": identity.user, "group": identity.group, "extra_groups": ()}


def server_identity() -> Identity | None:
    """Whom servers run as: an unprivileged user when we are root, else ourselves (None)."""
    if os.geteuid() != 0:
        return None
    try:
        user = pwd.getpwnam(USER)
    except KeyError as error:
        raise ConfigurationInvalid(f"PostgreSQL does not run as root and there is no user {USER!r}") from error
    return Identity(user=user.pw_uid, group=user.pw_gid)


def can_pass(path: Path) -> bool:
    """True if any user may go through this folder and all above it."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents))


def reachable_install(site: Path, *, parts: tuple[str, ...], distribution: str) -> Path:
    """The folder in which these parts of a distribution lie: `site`, or for root a copy the user can run.

    Libraries keep their place relative to the binaries, which look for them there.
    """
    present = [part for part in parts if (site / part).exists()]
    if server_identity() is None or all(_is_open(site / part) for part in present):
        return site
    copies = trusted_folder(SHARED_FOLDER / "servers")
    copy = copies / f"{distribution}-{version(distribution)}"
    if not copy.exists():
        partial = Path(tempfile.mkdtemp(dir=copies, prefix=".partial-"))
        for part in present:
            shutil.copytree(site / part, partial / "tree" / part, symlinks=True)
        for path in (partial / "tree", *(partial / "tree").rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
        try:
            (partial / "tree").rename(copy)
        except OSError:
            # Another process was faster: its copy is complete, for it was renamed as well.
            if not copy.exists():
                raise
        shutil.rmtree(partial)
    return copy


def _is_open(folder: Path) -> bool:
    return can_pass(folder.resolve()) and bool(folder.stat().st_mode & stat.S_IROTH)


def trusted_folder(folder: Path) -> Path:
    """Make a folder of root's; refuse it when anybody else could have put something there."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in missing:
            path.chmod(0o755)
    except OSError as error:
        raise ConfigurationInvalid(f"{folder} cannot be made: {error.strerror}; {HOW_TO_AVOID}") from error
    for path in (folder, *folder.parents):
        state = path.lstat()
        if not stat.S_ISDIR(state.st_mode) or state.st_uid != 0 or state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigurationInvalid(f"{path} is not a folder that only root can write to; {HOW_TO_AVOID}")
    return folder


HOW_TO_AVOID = (
    "root needs it to run servers as an unprivileged user while the project lies under a private folder: "
    "run as an ordinary user, or set AUTERITY_DATABASE_URL and AUTERITY_REDIS_URL"
)
