"""The REST API as one signed-in person calls it; problem documents become errors with their own words."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import httpx

from auterity_dagster.errors import Conflict, Unavailable


class ApiClient:
    """Signs in on first use and again when the access token has run out."""

    def __init__(self, url: str, *, email: str, password: str) -> None:
        self._client = httpx.Client(base_url=f"{url}/api/v1", timeout=60)
        self._credentials = {"email": email, "password": password}
        self._token: str | None = None

    def get(self, path: str, **parameters: str | int | UUID) -> Any:
        """GET as JSON; the shape is the route's."""
        return self._call("GET", path, params={key: str(value) for key, value in parameters.items()})

    def post(self, path: str, body: Mapping[str, object], *, idempotency_key: str | None = None) -> Any:
        """POST JSON; the shape of the answer is the route's."""
        headers = {} if idempotency_key is None else {"idempotency-key": idempotency_key}
        return self._call("POST", path, json=body, headers=headers)

    def put(self, path: str, body: Mapping[str, object]) -> Any:
        """PUT JSON; the shape of the answer is the route's."""
        return self._call("PUT", path, json=body)

    def _call(self, method: str, path: str, **request: Any) -> Any:
        response = self._send_signed(method, path, **request)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            self._token = None
            response = self._send_signed(method, path, **request)
        if response.is_error:
            kind = Conflict if response.status_code == httpx.codes.CONFLICT else Unavailable
            raise kind(f"{method} {path} was refused with {response.status_code}: {_words(response)}")
        return response.json() if response.content else None

    def _send_signed(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **request: Any
    ) -> httpx.Response:
        if self._token is None:
            self._token = self._sign_in()
        signed = {**(headers or {}), "authorization": f"Bearer {self._token}"}
        return self._send(method, path, headers=signed, **request)

    def _sign_in(self) -> str:
        response = self._send("POST", "/auth/login", json=self._credentials)
        if response.is_error:
            raise Unavailable(f"signing in was refused with {response.status_code}: {_words(response)}")
        return str(response.json()["access_token"])

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            return self._client.request(method, path, **request)
        except httpx.HTTPError as error:
            raise Unavailable(f"the API does not answer {method} {path}: {error}") from error


def _words(response: httpx.Response) -> str:
    try:
        return str(response.json().get("detail", response.text))
    except ValueError:
        return response.text[:300]
