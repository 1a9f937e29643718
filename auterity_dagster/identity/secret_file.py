"""Reads this installation's secrets: files that only their owner may read."""

import stat
from pathlib import Path

from auterity_dagster.errors import ConfigurationInvalid

PEPPER_BYTES = 32


def read_secret(secrets_dir: Path, name: str) -> str:
    """Return a secret's text without surrounding white space.

    Raises `ConfigurationInvalid` when the file is missing, empty, or readable by others.
    """
    path = secrets_dir / name
    if not path.is_file():
        raise ConfigurationInvalid(f"the secret {path} is missing: `auterity up` makes it")
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationInvalid(f"{path} can be read by others: chmod go= {path}")
    text = path.read_text(encoding="utf-8").strip()
    if not text:
        raise ConfigurationInvalid(f"the secret {path} is empty")
    return text


def read_pepper(secrets_dir: Path) -> bytes:
    """Return the pepper, 32 bytes from which every server-side key is derived."""
    text = read_secret(secrets_dir, "pepper")
    try:
        pepper = bytes.fromhex(text)
    except ValueError as error:
        raise ConfigurationInvalid(f"{secrets_dir / 'pepper'} is not hexadecimal") from error
    if len(pepper) != PEPPER_BYTES:
        raise ConfigurationInvalid(f"{secrets_dir / 'pepper'} must hold {PEPPER_BYTES} bytes as {2 * PEPPER_BYTES} hex")
    return pepper
