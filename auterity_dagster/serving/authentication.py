"""Who calls: access tokens and API keys become principals.

What a user may do is read from PostgreSQL every 5 seconds, what a key may do every minute and whenever the epoch of its
organization says that a key was changed.

Both an ASGI request and a bare header string can be authenticated, so the gateway's raw path uses the same code.
"""

import asyncio
import hmac
from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID
from weakref import WeakValueDictionary

from fastapi import Depends
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.requests import HTTPConnection

from auterity_dagster.clock import Clock
from auterity_dagster.errors import NotAuthenticated, Unavailable
from auterity_dagster.identity.access_token import AccessTokens
from auterity_dagster.identity.api_key import PresentedKey, digest_of, invalid_key, read_key
from auterity_dagster.identity.permission import Permission
from auterity_dagster.identity.principal import Principal
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.redis_key_epochs import KeyEpochs
from auterity_dagster.storage.repositories import api_keys, users

CACHE_TIME = timedelta(seconds=5)
"""How long a right that was taken from a user may still work."""

KEY_CACHE_TIME = timedelta(seconds=60)
KEY_CACHE_TIME_ALONE = timedelta(seconds=1)
"""How long a key is remembered while nobody can say whether it was changed: Redis is away."""

CACHE_SIZE = 10_000
Seen = tuple[datetime, Principal, int]


@dataclass(frozen=True, slots=True)
class _SeenKey:
    """A key as it was read at a time and under an epoch; `until` is when it must be read again at the latest."""

    principal: Principal
    epoch: bytes
    read_at: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Authentication:
    """Turns credentials into principals; one a process, shared by its requests as `request.state.authentication`."""

    database: Database
    access_tokens: AccessTokens
    pepper: bytes
    clock: Clock
    epochs: KeyEpochs
    _users: dict[tuple[UUID, UUID], Seen] = field(default_factory=dict[tuple[UUID, UUID], Seen])
    _keys: dict[bytes, _SeenKey] = field(default_factory=dict[bytes, _SeenKey])
    _loading: WeakValueDictionary[bytes, asyncio.Lock] = field(default_factory=WeakValueDictionary[bytes, asyncio.Lock])

    async def user(self, token: str) -> Principal:
        """Return the signed-in user of an access token. Raises `NotAuthenticated`, or `Unavailable`."""
        claims = self.access_tokens.verify(token)
        cached = self._fresh(self._users.get((claims.organization_id, claims.user_id)))
        if cached is None:
            cached = await self._load_user(claims.organization_id, claims.user_id)
        principal, epoch = cached
        if epoch != claims.epoch:
            raise NotAuthenticated("the session has ended", code="session_ended")
        return principal

    async def api_key(self, key: str) -> Principal:
        """Return the principal of an API key. Raises `NotAuthenticated`, or `Unavailable`.

        A malformed key costs no query; a wrong one costs the same as one that does not exist.
        """
        digest = digest_of(self.pepper, key)
        cached = self._fresh_key(digest)
        if cached is not None:
            return cached
        presented = read_key(self.pepper, key)
        # One question for all the calls that find the same key out of date.
        async with self._loading.setdefault(digest, asyncio.Lock()):
            return self._fresh_key(digest) or await self._load_key(presented)

    async def _load_user(self, organization_id: UUID, user_id: UUID) -> tuple[Principal, int]:
        try:
            async with self.database.begin(organization_id) as session:
                user = await users.find_active(session, user_id)
        except (DBAPIError, PoolTimeout) as error:
            raise _unavailable() from error
        if user is None:
            raise NotAuthenticated("the session has ended", code="session_ended")
        _remember(self._users, (organization_id, user_id), self._seen(user.principal, user.session_epoch))
        return user.principal, user.session_epoch

    async def _load_key(self, presented: PresentedKey) -> Principal:
        try:
            async with self.database.begin_without_organization() as session:
                found = await api_keys.locate(session, public_id=presented.public_id)
            stored = found.digest if found is not None else bytes(len(presented.digest))
            if not hmac.compare_digest(stored, presented.digest) or found is None:
                raise invalid_key()
            epoch = await self.epochs.of(found.organization_id)  # before the key: a change in between shows
            read_at = self.clock.now()
            async with self.database.begin(found.organization_id) as session:
                active = await api_keys.find_active(session, found.key_id)
        except (DBAPIError, PoolTimeout) as error:
            raise _unavailable() from error
        if active is None:
            raise invalid_key()
        until = min(read_at + KEY_CACHE_TIME, active.expires_at or datetime.max.replace(tzinfo=UTC))
        if self.epochs.is_current(found.organization_id, epoch):
            _remember(self._keys, presented.digest, _SeenKey(active.principal, epoch, read_at, until))
        return active.principal

    def _fresh_key(self, digest: bytes) -> Principal | None:
        seen = self._keys.get(digest)
        if seen is None:
            return None
        until = seen.until if self.epochs.is_live else min(seen.until, seen.read_at + KEY_CACHE_TIME_ALONE)
        is_current = self.epochs.is_current(seen.principal.organization_id, seen.epoch)
        return seen.principal if is_current and self.clock.now() < until else None

    def _seen(self, principal: Principal, epoch: int) -> Seen:
        return self.clock.now() + CACHE_TIME, principal, epoch

    def _fresh(self, seen: Seen | None) -> tuple[Principal, int] | None:
        if seen is None or seen[0] <= self.clock.now():
            return None
        return seen[1], seen[2]


async def authenticate(
    connection: HTTPConnection,
    *,
    kind: Literal["user", "api_key", "user_or_api_key"],
    permission: Permission | Literal["public", "signed_in"],
) -> Principal:
    """Authenticate a request or WebSocket, demand the permission, and keep the principal in its state."""
    authentication: Authentication = connection.state.authentication
    credential = presented_credential(
        connection.headers.get("authorization"), x_api_key=connection.headers.get("x-api-key")
    )
    is_key = credential.startswith("auty_")
    if kind == "api_key" or (kind == "user_or_api_key" and is_key):
        principal = await authentication.api_key(credential)
    else:
        principal = await authentication.user(credential)
    if isinstance(permission, Permission):
        principal.require(permission)
    connection.state.principal = principal
    return principal


def presented_credential(authorization: str | None, *, x_api_key: str | None = None) -> str:
    """Return the credential of `Authorization: Bearer …` or `x-api-key: …`. Raises `NotAuthenticated`."""
    if authorization is not None:
        scheme, _, credential = authorization.partition(" ")
        if scheme.lower() == "bearer" and credential.strip():
            return credential.strip()
    elif x_api_key:
        return x_api_key
    raise NotAuthenticated("a credential is needed: Authorization: Bearer …")


async def current_principal(connection: HTTPConnection) -> Principal:
    """Return the principal whom the route's declaration let in."""
    principal: Principal = connection.state.principal
    return principal


CurrentPrincipal = Annotated[Principal, Depends(current_principal)]
"""The user or key of a request, as its route declared it."""


def _remember(cache: dict[Any, Any], key: Hashable, seen: Seen | _SeenKey) -> None:
    cache.pop(key, None)
    if len(cache) >= CACHE_SIZE:
        del cache[next(iter(cache))]
    cache[key] = seen


def _unavailable() -> Unavailable:
    return Unavailable("sign-in cannot be checked at the moment", retry_after_s=1)
