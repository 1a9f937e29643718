"""Secrets are read from files that nobody else can read, and from nothing else."""

from pathlib import Path

import pytest

from auterity_dagster.embedded.secrets import ensure_secrets
from auterity_dagster.errors import ConfigurationInvalid
from auterity_dagster.identity.secret_file import read_pepper, read_secret


def test_the_secrets_that_up_makes_are_read(tmp_path: Path) -> None:
    ensure_secrets(tmp_path / "secrets")

    assert len(read_pepper(tmp_path / "secrets")) == 32
    assert read_secret(tmp_path / "secrets", "signing_key.pem").startswith("-----BEGIN PRIVATE KEY-----")


@pytest.mark.parametrize(
    ("content", "mode"), [(None, 0), (b"ab" * 32, 0o644), (b"", 0o600), (b"zz" * 32, 0o600), (b"ab" * 31, 0o600)]
)
def test_a_missing_open_empty_or_damaged_secret_stops_the_start(
    tmp_path: Path, content: bytes | None, mode: int
) -> None:
    if content is not None:
        (tmp_path / "pepper").write_bytes(content)
        (tmp_path / "pepper").chmod(mode)

    with pytest.raises(ConfigurationInvalid, match="pepper"):
        read_pepper(tmp_path)
