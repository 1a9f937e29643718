"""Signing in, refreshing and signing out; and who is signed in."""

from typing import Annotated, Literal
from uuid import UUID, uuid4

from fastapi import Body, Cookie, Header, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from auterity_dagster.errors import NotAuthenticated
from auterity_dagster.identity.access_token import LIFETIME
from auterity_dagster.identity.password import LONGEST, NOBODYS_HASH, is_outdated
from auterity_dagster.identity.permission import Permission, Role
from auterity_dagster.identity.refresh_token import ABSOLUTE, new_refresh_token, refused, require_well_formed
from auterity_dagster.serving.api.state import ApiState, State
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import audit, organizations, refresh_tokens, sign_in_failures, users

router = DeclaredRouter(tags=["signing in"])
COOKIE = "__Host-auterity_refresh"
BODY_LIMIT_BYTES = 4096
CarriedIn = Literal["cookie", "body"]


class SignIn(BaseModel):
    """Address and password; a program asks for the refresh token in the body, a browser gets it as a cookie."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    email: str = Field(min_length=3, max_length=254)
    password: SecretStr = Field(min_length=1, max_length=LONGEST)
    refresh_token_in: CarriedIn = "cookie"  # noqa: S105 - a place, not a password


class RefreshTokenCarried(BaseModel):
    """A refresh token in the body, for programs without cookies."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    refresh_token: SecretStr = Field(max_length=128)


class TokensRead(BaseModel):
    """An access token for `Authorization: Bearer`, and the refresh token if it was asked for in the body."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - RFC 6750's word
    expires_in: int = int(LIFETIME.total_seconds())
    refresh_token: str | None = None


class MeRead(BaseModel):
    """Who is signed in, and what they may do; `dealership_ids` null means every dealership."""

    id: UUID
    email: str
    name: str
    organization_id: UUID
    organization_name: str
    roles: list[Role]
    permissions: list[Permission]
    dealership_ids: list[UUID] | None


CookieToken = Annotated[str | None, Cookie(alias=COOKIE, max_length=128)]
FetchSite = Annotated[str | None, Header(alias="sec-fetch-site")]


@router.post(
    "/auth/login",
    authentication="public",
    permission="public",
    body_limit_bytes=BODY_LIMIT_BYTES,
    audit_class="security",
    problems=(401, 429),
)
async def login(state: State, response: Response, sign_in: SignIn) -> TokensRead:
    """Exchange address and password for tokens; an unknown address costs the same work and gets the same answer."""
    address = sign_in_failures.address_digest(state.pepper, sign_in.email)
    async with state.database.begin_without_organization() as session:
        await sign_in_failures.take_attempt(session, address)
        located = await users.locate(session, email=sign_in.email)
    organization_id, user_id = (located.organization_id, located.user_id) if located else (uuid4(), uuid4())
    async with state.database.begin(organization_id) as session:
        user = await users.find_active(session, user_id)
    password = sign_in.password.get_secret_value()
    password_hash = user.password_hash if user is not None else NOBODYS_HASH
    is_right = await state.passwords.verify(password, password_hash=password_hash)
    if user is None or not is_right:
        raise NotAuthenticated("address or password is wrong", code="sign_in_refused")
    newer_hash = await state.passwords.hash(password) if is_outdated(password_hash) else None
    token = new_refresh_token()
    async with state.database.begin(organization_id) as session:
        await sign_in_failures.forget(session, address)
        if newer_hash is not None:
            await users.change_password_hash(session, user_id, password_hash=newer_hash)
        family_id = await refresh_tokens.begin_family(
            session, token=token, user_id=user_id, session_epoch=user.session_epoch
        )
        await audit.append(
            session,
            actor=user.principal,
            action="session.started",
            subject=f"user/{user_id}",
            details={"family": str(family_id)},
        )
    access_token = state.access_tokens.issue(user_id, organization_id=organization_id, epoch=user.session_epoch)
    return _tokens(response, access_token=access_token, refresh_token=token, carried_in=sign_in.refresh_token_in)


@router.post(
    "/auth/refresh",
    authentication="refresh_token",
    permission="signed_in",
    body_limit_bytes=BODY_LIMIT_BYTES,
    audit_class="security",
)
async def refresh(
    state: State,
    response: Response,
    carried: Annotated[RefreshTokenCarried | None, Body()] = None,
    cookie: CookieToken = None,
    fetch_site: FetchSite = None,
) -> TokensRead:
    """Exchange a refresh token for its one successor and a new access token; a replay ends the whole session."""
    token, carried_in = _presented(carried, cookie=cookie, fetch_site=fetch_site)
    located = await _locate(state, token)
    async with state.database.begin(located.organization_id) as session:
        rotation = await refresh_tokens.rotate(session, located.token_id, token=token, pepper=state.pepper)
        user = await users.find_active(session, rotation.user_id)
        if rotation.outcome == "replayed":
            await audit.append(
                session,
                actor=None,
                action="session.replayed",
                subject=f"user/{rotation.user_id}",
                details={"family": str(rotation.family_id)},
            )
    # Only now: an error inside the transaction would bring a killed family back to life.
    if rotation.successor is None or user is None or user.session_epoch != rotation.session_epoch:
        raise refused()
    access_token = state.access_tokens.issue(
        rotation.user_id, organization_id=located.organization_id, epoch=user.session_epoch
    )
    return _tokens(response, access_token=access_token, refresh_token=rotation.successor, carried_in=carried_in)


@router.post(
    "/auth/logout",
    authentication="refresh_token",
    permission="signed_in",
    body_limit_bytes=BODY_LIMIT_BYTES,
    audit_class="security",
    status_code=204,
)
async def logout(
    state: State,
    response: Response,
    carried: Annotated[RefreshTokenCarried | None, Body()] = None,
    cookie: CookieToken = None,
    fetch_site: FetchSite = None,
) -> None:
    """End the session that a refresh token belongs to; its access token runs out within ten minutes."""
    token, _ = _presented(carried, cookie=cookie, fetch_site=fetch_site)
    located = await _locate(state, token)
    async with state.database.begin(located.organization_id) as session:
        user_id = await refresh_tokens.revoke_token(session, located.token_id)
        if user_id is not None:
            await audit.append(
                session, actor=None, action="session.ended", subject=f"user/{user_id}", details={"by": "logout"}
            )
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="strict")


@router.get("/me", authentication="user", permission="signed_in", body_limit_bytes=0, audit_class="none")
async def me(state: State, principal: CurrentPrincipal) -> MeRead:
    """Return who is signed in."""
    async with state.database.begin(principal.organization_id) as session:
        user = await users.get(session, principal.id)
        organization_name = await organizations.organization_name(session)
    return MeRead(
        id=principal.id,
        email=user.email,
        name=user.name,
        organization_id=principal.organization_id,
        organization_name=organization_name,
        roles=sorted(principal.roles),
        permissions=sorted(principal.permissions),
        dealership_ids=sorted(principal.dealership_ids) if principal.dealership_ids is not None else None,
    )


def _presented(
    carried: RefreshTokenCarried | None, *, cookie: str | None, fetch_site: str | None
) -> tuple[str, CarriedIn]:
    if carried is not None:
        return carried.refresh_token.get_secret_value(), "body"
    # SameSite=Strict already keeps the cookie from other sites' requests; this does where a browser errs.
    if cookie is None or fetch_site not in (None, "same-origin"):
        raise refused()
    return cookie, "cookie"


async def _locate(state: ApiState, token: str) -> refresh_tokens.LocatedToken:
    require_well_formed(token)
    async with state.database.begin_without_organization() as session:
        located = await refresh_tokens.locate(session, token=token)
    if located is None:
        raise refused()
    return located


def _tokens(response: Response, *, access_token: str, refresh_token: str, carried_in: CarriedIn) -> TokensRead:
    if carried_in == "body":
        return TokensRead(access_token=access_token, refresh_token=refresh_token)
    response.set_cookie(
        COOKIE,
        refresh_token,
        max_age=int(ABSOLUTE.total_seconds()),
        path="/",
        secure=True,
        httponly=True,
        samesite="strict",
    )
    return TokensRead(access_token=access_token)
