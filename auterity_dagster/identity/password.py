"""Passwords: which are accepted, and Argon2id with parameters that cost about a fifth of a second.

These functions block and take 64 MiB each: whoever serves many callers bounds how many run at once.
"""

import re
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from auterity_dagster.errors import Invalid

SHORTEST = 12
LONGEST = 128

# Long enough and still the first that anybody tries; compared after digits, signs and case are taken away.
COMMON = frozenset(
    {
        "password", "passwordpassword", "mypassword", "thepassword", "newpassword", "yourpassword", "passw", "qwerty",
        "qwertyuiop", "qwertyuiopasdfghjkl", "qwertyqwerty", "asdfghjkl", "zxcvbnm", "qazwsxedc", "letmein",
        "letmeinplease", "iloveyou", "iloveyouforever", "welcome", "welcomewelcome", "administrator", "admin",
        "adminadmin", "changeme", "changemenow", "trustnoone", "sunshine", "princess", "football", "baseball",
        "monkey", "dragon", "superman", "batman", "starwars", "whatever", "dealership", "automotive", "auterity",
        "company", "secret", "topsecret", "default", "guest", "root", "toor", "test", "testtest", "summer", "winter",
        "spring", "autumn", "january", "september", "october", "november", "december", "monday", "friday",
        "correcthorsebatterystaple",
    }
)  # fmt: skip
_HASHER = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=1)

NOBODYS_HASH = "$argon2id$v=19$m=65536,t=3,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
"""What an unknown user's password is compared with: no password has this hash, and finding out costs the same work."""


def require_acceptable(password: str, *, email: str) -> None:
    """Raise `Invalid` for a password that is too short, too long, or among the first that anybody would try."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise Invalid(f"a password has {SHORTEST} to {LONGEST} characters", code="password_length", field="password")
    letters = re.sub(r"[^a-z]", "", password.lower())
    repeated = len(set(password)) <= 3 or any(password == password[:n] * (len(password) // n) for n in range(1, 5))
    if letters in COMMON or repeated or letters == re.sub(r"[^a-z]", "", email.lower().partition("@")[0]):
        raise Invalid("this password is too easy to guess", code="password_common", field="password")


def hash_password(password: str) -> str:
    """Return the Argon2id hash of a password, with its parameters (about 0.2 s and 64 MiB)."""
    return _HASHER.hash(_normal(password))


def verify_password(password: str, *, password_hash: str) -> bool:
    """True if the password has this hash; costs the same either way."""
    try:
        return _HASHER.verify(password_hash, _normal(password))
    except (VerifyMismatchError, VerificationError, InvalidHashError):
        return False


def is_outdated(password_hash: str) -> bool:
    """True if the hash was made with other parameters than today's."""
    return _HASHER.check_needs_rehash(password_hash)


def _normal(password: str) -> str:
    # The same characters typed on another keyboard may arrive composed differently.
    return unicodedata.normalize("NFKC", password)
