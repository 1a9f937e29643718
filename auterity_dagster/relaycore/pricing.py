"""What a call costs: integer nano-dollars from tokens and a price; one function for holds and for settlements."""

from dataclasses import dataclass
from datetime import date

from auterity_dagster.errors import Invalid, PriceUnknown
from auterity_dagster.money import NanoUsd

TOKENS_PER_PRICE = 1_000_000


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one attempt, normalised: `prompt_tokens` contains the cached ones, `completion_tokens` the reasoning.

    Raises `Invalid` when a count is negative or the cached tokens exceed the prompt.
    """

    prompt_tokens: int
    completion_tokens: int
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0

    def __post_init__(self) -> None:
        counts = (self.uncached_tokens, self.completion_tokens, self.cache_read_tokens)
        if min(*counts, self.cache_write_5m_tokens, self.cache_write_1h_tokens) < 0:
            raise Invalid("A usage report has a negative token count, or more cached tokens than prompt tokens")

    @property
    def uncached_tokens(self) -> int:
        """Prompt tokens charged at the plain input rate."""
        return self.prompt_tokens - self.cache_read_tokens - self.cache_write_5m_tokens - self.cache_write_1h_tokens


@dataclass(frozen=True, slots=True)
class Rates:
    """Nano-dollars per million tokens, per class; None: the provider names no price for that class.

    They apply to a call whose whole prompt has more than `above_prompt_tokens` tokens.
    """

    above_prompt_tokens: int
    input: int
    output: int
    cache_read: int | None
    cache_write_5m: int | None
    cache_write_1h: int | None


@dataclass(frozen=True, slots=True)
class Price:
    """One dated entry of the price list, in force from the start of a day (UTC); `tiers` rise by prompt size from 0."""

    key: str
    in_force_from: date
    tiers: tuple[Rates, ...]
    digest: str
    source: str


def cost(usage: Usage, price: Price) -> NanoUsd:
    """Return what the attempt costs, each class of tokens rounded up once.

    Raises `PriceUnknown` when the usage has tokens of a class that the price does not name.
    """
    rates = rates_at(usage.prompt_tokens, price)
    classes = (
        (usage.uncached_tokens, rates.input),
        (usage.cache_read_tokens, rates.cache_read),
        (usage.cache_write_5m_tokens, rates.cache_write_5m),
        (usage.cache_write_1h_tokens, rates.cache_write_1h),
        (usage.completion_tokens, rates.output),
    )
    total = 0
    for tokens, rate in classes:
        if tokens and rate is None:
            raise PriceUnknown(f"The price of {price.key} names no rate for a class of tokens that was billed")
        total += _rounded_up(tokens, rate or 0)
    return total


def cost_elsewhere(usage: Usage, price: Price) -> NanoUsd:
    """Return what the same tokens would have cost at another price; a class it does not name is plain input there."""
    rates = rates_at(usage.prompt_tokens, price)
    return cost(
        Usage(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cache_read_tokens=0 if rates.cache_read is None else usage.cache_read_tokens,
            cache_write_5m_tokens=0 if rates.cache_write_5m is None else usage.cache_write_5m_tokens,
            cache_write_1h_tokens=0 if rates.cache_write_1h is None else usage.cache_write_1h_tokens,
        ),
        price,
    )


def rates_at(prompt_tokens: int, price: Price) -> Rates:
    """Return the rates of the last tier that the prompt is larger than; the first one also prices an empty prompt."""
    reached = price.tiers[0]
    for rates in price.tiers[1:]:
        if prompt_tokens <= rates.above_prompt_tokens:
            break
        reached = rates
    return reached


def bound(prompt_tokens_bound: int, max_tokens: int, price: Price) -> NanoUsd:
    """Return an amount that no call of at most so many prompt and output tokens can exceed.

    The whole prompt at the dearest class of any tier it can reach; each further class may round up by one.
    """
    dearest = 0
    for rates in price.tiers:
        if rates.above_prompt_tokens > prompt_tokens_bound:
            break
        dearest = max(dearest, _prompt_bound(prompt_tokens_bound, rates) + _rounded_up(max_tokens, rates.output))
    return dearest


def _prompt_bound(tokens: int, rates: Rates) -> NanoUsd:
    dearest = offered = 0
    for rate in (rates.input, rates.cache_read, rates.cache_write_5m, rates.cache_write_1h):
        if rate:
            dearest, offered = max(dearest, rate), offered + 1
    return _rounded_up(tokens, dearest) + max(offered - 1, 0)


def _rounded_up(tokens: int, nusd_per_mtok: int) -> NanoUsd:
    return -(-tokens * nusd_per_mtok // TOKENS_PER_PRICE)
