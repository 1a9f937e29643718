import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from auterity_dagster.embedded.secrets import ensure_secrets
from auterity_dagster.errors import ConfigurationInvalid


def test_every_secret_is_made_for_its_owner_only(tmp_path: Path) -> None:
    ensure_secrets(tmp_path / "secrets")

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "secrets").iterdir()}
    assert {"signing_key.pem", "pepper", "model_server_token", "sandbox_token", "app_database_password"} <= set(modes)
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700


def test_the_formats_are_the_ones_that_their_readers_expect(tmp_path: Path) -> None:
    ensure_secrets(tmp_path)

    assert load_pem_private_key((tmp_path / "signing_key.pem").read_bytes(), password=None)
    assert len(bytes.fromhex((tmp_path / "pepper").read_text())) == 32


def test_existing_secrets_stay(tmp_path: Path) -> None:
    ensure_secrets(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    ensure_secrets(tmp_path)

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    ensure_secrets(tmp_path)
    (tmp_path / "pepper").chmod(0o644)

    with pytest.raises(ConfigurationInvalid, match="pepper can be read by others: chmod"):
        ensure_secrets(tmp_path)


def test_an_emptied_secret_is_not_taken_for_one(tmp_path: Path) -> None:
    ensure_secrets(tmp_path)
    (tmp_path / "pepper").write_text("")

    with pytest.raises(ConfigurationInvalid, match="pepper is empty"):
        ensure_secrets(tmp_path)


@pytest.fixture(autouse=True)
def private_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
