"""Which vehicles of the stock fit what a customer asked for, the best first."""

from collections.abc import Mapping, Sequence

from auterity_dagster.automatrix.ports import StockVehicle

EXACT = 1000
"""The very vehicle, by stock number or VIN: shown whatever its status, so that a reply can say it is sold."""

BROUGHT = frozenset({"trade-in", "sell"})


def wishes(wanted: Sequence[Mapping[str, object]]) -> tuple[Mapping[str, object], ...]:
    """Return what is asked for, without the vehicles that the customer brings."""
    return tuple(one for one in wanted if one.get("interest") not in BROUGHT)


def best_fits(
    stock: Sequence[StockVehicle], *, wanted: Sequence[Mapping[str, object]], limit: int
) -> tuple[StockVehicle, ...]:
    """Return up to `limit` vehicles that fit a wish, the best first; equal ones by price, then stock number."""
    scored = [(max((fit(vehicle, wish) for wish in wishes(wanted)), default=0), vehicle) for vehicle in stock]
    fitting = [(score, vehicle) for score, vehicle in scored if score > 0]
    fitting.sort(key=lambda pair: (-pair[0], pair[1].price_nusd or 0, pair[1].stock_number))
    return tuple(vehicle for _, vehicle in fitting[:limit])


def fit(vehicle: StockVehicle, wish: Mapping[str, object]) -> int:
    """Return how well a vehicle fits one wish; 0 is not at all."""
    if _same(wish.get("stock_number"), vehicle.stock_number) or _same(wish.get("vin"), vehicle.vin):
        return EXACT
    if vehicle.status != "available" or not _same(wish.get("make"), vehicle.make):
        return 0
    if not _same(wish.get("vehicle_model"), vehicle.vehicle_model):
        return 0
    score = 100 + 30 * _same(wish.get("trim"), vehicle.trim) + 20 * _same(wish.get("status"), vehicle.condition)
    year = wish.get("year")
    if isinstance(year, int) and vehicle.year is not None:
        score += max(0, 10 - 2 * abs(year - vehicle.year))
    return score


def _same(wished: object, found: str | None) -> bool:
    return isinstance(wished, str) and found is not None and wished.strip().casefold() == found.casefold() != ""
