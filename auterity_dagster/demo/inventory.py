"""The demo dealerships' stock and service customers: invented, and the same on every run."""

from dataclasses import dataclass
from random import Random

_SEED = 20261124


@dataclass(frozen=True, slots=True)
class StockedVehicle:
    """One vehicle on the lot; the price is the total price in whole US dollars."""

    stock_number: str
    year: int
    make: str
    vehicle_model: str
    trim: str
    status: str
    price_usd: int


@dataclass(frozen=True, slots=True)
class ServiceCustomer:
    """One customer whose car is due for service."""

    customer_id: str
    name: str
    phone: str
    vehicle: str
    due: str
    times: tuple[str, str]


STOCK = (
    StockedVehicle("H26110", 2026, "Honda", "CR-V", "EX", "new", 36310),
    StockedVehicle("H26154", 2026, "Honda", "CR-V", "Sport-L", "new", 39840),
    StockedVehicle("P4471", 2024, "Ford", "Escape", "Platinum", "used", 24990),
    StockedVehicle("P4502", 2023, "Ford", "Escape", "Active", "used", 21750),
    StockedVehicle("T1187", 2026, "Toyota", "Corolla", "XSE", "new", 29995),
    StockedVehicle("T1203", 2026, "Toyota", "RAV4", "XLE", "new", 35620),
    StockedVehicle("S60214", 2026, "Subaru", "Outback", "Premium", "new", 37445),
    StockedVehicle("V2510", 2025, "Volkswagen", "Atlas", "Peak Edition SE", "new", 48370),
    StockedVehicle("J2209A", 2024, "Jeep", "Wrangler", "Sahara", "used", 43880),
    StockedVehicle("K3316", 2026, "Kia", "Telluride", "EX", "new", 45115),
    StockedVehicle("R25077", 2025, "Ram", "1500", "Big Horn/Lonestar", "new", 54285),
    StockedVehicle("N2604", 2026, "Nissan", "Rogue", "SL", "new", 36890),
    StockedVehicle("C24118", 2024, "Chevrolet", "Silverado 1500", "RST", "used", 46200),
    StockedVehicle("M2650", 2026, "Mazda", "CX-50", "Premium Plus", "new", 42310),
    StockedVehicle("Y2618", 2026, "Hyundai", "Tucson", "Limited", "new", 39990),
    StockedVehicle("G5188", 2025, "GMC", "Sierra 1500", "AT4", "new", 66940),
    StockedVehicle("U8830", 2020, "Toyota", "RAV4", "LE", "used", 22480),
    StockedVehicle("F7102", 2025, "Ford", "F-150", "XL", "new", 41980),
    StockedVehicle("F7130", 2025, "Ford", "Transit", "250", "new", 52340),
    StockedVehicle("P5102", 2022, "Ford", "Edge", "SEL", "used", 25870),
    StockedVehicle("P4460", 2024, "Ford", "Mustang", "GT", "used", 41875),
)

_FIRST_NAMES = ("Ana", "Ben", "Carla", "Dev", "Elena", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Kayla", "Luis")
_LAST_NAMES = ("Abbott", "Barros", "Chen", "Duarte", "Eriksen", "Foley", "Gupta", "Hale", "Ivanov", "Jensen", "Klein")
_VEHICLES = ("2021 Toyota RAV4", "2019 Honda Civic", "2022 Ford Escape", "2020 Subaru Outback", "2018 Kia Sorento")
_SERVICES = ("30,000 mile service", "oil and filter change", "tire rotation", "brake fluid change", "cabin air filter")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
_HOURS = ("08:30", "09:15", "11:00", "13:00", "15:45")


def service_customers(count: int) -> tuple[ServiceCustomer, ...]:
    """Invent `count` customers; telephone numbers are of the range reserved for fiction."""
    random = Random(_SEED)  # noqa: S311  # invented people, not secrets
    customers = []
    for index in range(count):
        first_day, second_day = random.sample(_DAYS, 2)
        times = (f"{first_day} {random.choice(_HOURS)}", f"{second_day} {random.choice(_HOURS)}")
        customers.append(
            ServiceCustomer(
                customer_id=f"service-{index + 1:04d}",
                name=f"{random.choice(_FIRST_NAMES)} {random.choice(_LAST_NAMES)}",
                # Area codes vary, because only a hundred numbers of each are reserved: 555-0100 to 555-0199.
                phone=f"+1{(312, 614, 515, 720)[index // 100 % 4]}555{100 + index % 100:04d}",
                vehicle=random.choice(_VEHICLES),
                due=random.choice(_SERVICES),
                times=times,
            )
        )
    return tuple(customers)
