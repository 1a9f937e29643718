"""The installation's own keys and passwords, made once and kept in files that only their owner can read."""

import os
import secrets
import stat
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from auterity_dagster.errors import ConfigurationInvalid

TOKENS = (
    "model_server_token",
    "sandbox_token",
    "app_database_password",
    "dagster_database_password",
    "mlflow_database_password",
    "redis_password",
)


def ensure_secrets(secrets_dir: Path) -> None:
    """Make each missing secret; existing ones stay. Refuses a folder or file that others can read."""
    secrets_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    _require_private(secrets_dir)
    _ensure(secrets_dir / "signing_key.pem", _signing_key())
    _ensure(secrets_dir / "pepper", secrets.token_hex(32).encode())
    for name in TOKENS:
        _ensure(secrets_dir / name, secrets.token_urlsafe(32).encode())


def _signing_key() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _ensure(path: Path, content: bytes) -> None:
    if not path.exists():
        # Linked into place when complete: a reader never sees half a key, and the first of two writers wins.
        partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(partial)
        except FileExistsError:
            pass
        finally:
            partial.unlink()
    _require_private(path)
    if path.stat().st_size == 0:
        raise ConfigurationInvalid(f"{path} is empty: restore it, or remove it to have a new one made")


def _require_private(path: Path) -> None:
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationInvalid(f"{path} can be read by others: chmod go= {path}")
