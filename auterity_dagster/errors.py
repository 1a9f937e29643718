"""Every error that Auterity's rules raise; adapters translate foreign errors into these kinds.

Only `serving/http_errors.py` knows which HTTP status a kind becomes.
"""

from collections.abc import Mapping


class AuterityError(Exception):
    """A failure with a stable machine code, a sentence for people, and details that are safe to show."""

    code = "error"

    def __init__(self, message: str, *, code: str | None = None, **details: object) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        self.details: Mapping[str, object] = details


class Invalid(AuterityError):
    """The caller's input breaks a rule; `details["field"]` says which field where there is one."""

    code = "invalid_request"


class ConfigurationInvalid(AuterityError):
    """A configuration file or environment variable is missing or wrong; the process must not start with it."""

    code = "configuration_invalid"


class NotAuthenticated(AuterityError):
    """No credential, or one that is forged, expired or revoked."""

    code = "not_authenticated"


class NotPermitted(AuterityError):
    """The principal is known, and may not do this."""

    code = "not_permitted"


class NotFound(AuterityError):
    """No such thing in the caller's organization; a foreign one is answered alike."""

    code = "not_found"


class Conflict(AuterityError):
    """The state changed meanwhile, or the same key was used for something else."""

    code = "conflict"


class TooLarge(AuterityError):
    """The input exceeds a declared size."""

    code = "body_too_large"


class RateLimited(AuterityError):
    """Too many calls; `details["retry_after_s"]` says when to come back."""

    code = "rate_limited"


class BudgetExceeded(AuterityError):
    """A hard budget has no room for what this call may cost."""

    code = "budget_exceeded"


class PriceUnknown(AuterityError):
    """No price is in force, so the cost has no bound and the call is refused."""

    code = "price_unknown"


class NoCandidate(AuterityError):
    """Steering left no deployment that may answer; `details` name what removed each."""

    code = "no_candidate"


class Unavailable(AuterityError):
    """A part we depend on does not answer; nothing was half done. `details["retry_after_s"]` may be set."""

    code = "unavailable"


class LeaseLost(AuterityError):
    """Another worker holds a newer fence: this one's result is refused."""

    code = "lease_lost"


class ProviderFailed(AuterityError):
    """A provider refused, broke off or answered nonsense.

    `cause` is one of `connection timeout rate_limit overloaded server_error malformed rejected credential cancelled`,
    the last where not the provider but the caller or this process ended the attempt;
    `is_billed` is None when nobody can know whether the provider charges for the attempt. `status` is the provider's
    own, where it answered with one; `retry_after_s` is when it wants to be asked again.
    """

    code = "upstream_error"

    def __init__(
        self,
        message: str,
        *,
        deployment: str,
        cause: str,
        is_billed: bool | None,
        status: int | None = None,
        retry_after_s: float | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message, code=code, deployment=deployment, cause=cause)
        self.deployment = deployment
        self.cause = cause
        self.is_billed = is_billed
        self.status = status
        self.retry_after_s = retry_after_s
