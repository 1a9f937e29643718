"""The words of generator A. Generator B (`suites`) shares no dealership, vehicle, time or sentence with it."""

from typing import NamedTuple


class CatalogVehicle(NamedTuple):
    """A vehicle model as dealers list it."""

    make: str
    vehicle_model: str
    trims: tuple[str, ...]


class Symptom(NamedTuple):
    """What a customer reports about a car, and where the request belongs."""

    text: str
    urgency: str
    department: str


DEALERSHIPS = ("Willow Creek Motors", "Bayview Auto", "Summit Ridge Cars", "Oak Street Autos")

FIRST_NAMES = (
    *(
        "Ana",
        "Marcus",
        "Priya",
        "Devon",
        "Elena",
        "Hiro",
        "Fatima",
        "Grant",
        "Lucia",
        "Owen",
        "Nadia",
        "Theo",
        "Carmen",
    ),
    *(
        "Isaac",
        "Renee",
        "Tomas",
        "Alice",
        "Bao",
        "Chloe",
        "Dmitri",
        "Esther",
        "Felix",
        "Gwen",
        "Hassan",
        "Imani",
        "Jorge",
    ),
    *("Keiko", "Leon", "Maya", "Noah", "Olga", "Pablo", "Quinn", "Rosa", "Samir", "Tessa", "Uma", "Victor", "Wendy"),
    *(
        "Xavier",
        "Yara",
        "Zane",
        "Amir",
        "Bella",
        "Cyrus",
        "Dana",
        "Emil",
        "Farah",
        "Gloria",
        "Hector",
        "Irene",
        "Jamal",
    ),
    *(
        "Karla",
        "Liam",
        "Mina",
        "Nico",
        "Opal",
        "Petra",
        "Rafael",
        "Sonia",
        "Trent",
        "Ursula",
        "Vera",
        "Walter",
        "Yusuf",
    ),
)

VEHICLES = (
    CatalogVehicle("Honda", "CR-V", ("LX", "EX", "EX-L", "Sport")),
    CatalogVehicle("Honda", "Accord", ("LX", "SE", "Touring")),
    CatalogVehicle("Toyota", "RAV4", ("LE", "XLE", "Adventure")),
    CatalogVehicle("Toyota", "Camry", ("LE", "SE", "XSE")),
    CatalogVehicle("Toyota", "Tacoma", ("SR5", "TRD Sport")),
    CatalogVehicle("Ford", "Escape", ("Active", "ST-Line", "Platinum")),
    CatalogVehicle("Ford", "F-150", ("XL", "XLT", "Lariat")),
    CatalogVehicle("Ford", "Edge", ("SE", "SEL", "Titanium")),
    CatalogVehicle("Chevrolet", "Equinox", ("LS", "LT", "RS")),
    CatalogVehicle("Chevrolet", "Silverado 1500", ("WT", "LT", "RST")),
    CatalogVehicle("Subaru", "Outback", ("Premium", "Limited", "Wilderness")),
    CatalogVehicle("Subaru", "Crosstrek", ("Base", "Sport")),
    CatalogVehicle("Jeep", "Wrangler", ("Sport", "Sahara", "Rubicon")),
    CatalogVehicle("Jeep", "Compass", ("Latitude", "Limited")),
    CatalogVehicle("Nissan", "Rogue", ("S", "SV", "SL")),
    CatalogVehicle("Nissan", "Altima", ("S", "SR")),
    CatalogVehicle("Mazda", "CX-50", ("Select", "Preferred", "Premium Plus")),
    CatalogVehicle("Kia", "Telluride", ("LX", "EX", "SX")),
    CatalogVehicle("Kia", "Sportage", ("LX", "EX")),
    CatalogVehicle("Hyundai", "Tucson", ("SE", "SEL", "Limited")),
    CatalogVehicle("Volkswagen", "Atlas", ("SE", "SEL")),
    CatalogVehicle("GMC", "Sierra 1500", ("SLE", "AT4")),
)

STOCK_LETTERS = "ABCDEFGHJKLM"
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
CLOCK_TIMES = (
    "08:00",
    "08:30",
    "09:00",
    "09:30",
    "10:00",
    "10:30",
    "11:00",
    "13:00",
    "13:30",
    "14:00",
    "15:00",
    "16:30",
)
HOURS = ("Mon-Sat 9:00-19:00", "Mon-Fri 8:00-18:00", "Mon-Sat 8:30-20:00", "every day 9:00-18:00")
SERVICES = (
    *(
        "10,000 mile service",
        "20,000 mile service",
        "30,000 mile service",
        "60,000 mile service",
        "90,000 mile service",
    ),
    *("oil and filter change", "tire rotation", "annual state inspection", "brake fluid change", "cabin filter change"),
    *("transmission fluid service", "coolant change", "battery check", "wheel alignment", "spark plug change"),
)

OPENERS = ("", "Hi, ", "Hello, ", "Good morning, ", "Hey there, ", "Hi team, ")
CLOSERS = (
    "",
    " Thanks!",
    " Thank you.",
    " Please let me know.",
    " Thanks in advance.",
    " Looking forward to your reply.",
)

SYMPTOMS = (
    Symptom("the brake pedal goes straight to the floor", "stop_driving", "service"),
    Symptom("my brakes failed coming down the hill this morning", "stop_driving", "service"),
    Symptom("the steering locked up in a turn", "stop_driving", "service"),
    Symptom("there is fuel dripping under the car", "stop_driving", "service"),
    Symptom("smoke comes from under the hood", "stop_driving", "service"),
    Symptom("the cabin smells strongly of gasoline", "stop_driving", "service"),
    Symptom("the steering wheel has no effect at low speed", "stop_driving", "service"),
    Symptom("a wheel feels loose and wobbles badly", "stop_driving", "service"),
    Symptom("the brake warning light is red and the pedal is soft", "stop_driving", "service"),
    Symptom("the airbag light came on today", "today", "service"),
    Symptom("the brakes grind every time I stop", "today", "service"),
    Symptom("the temperature gauge climbs into the red", "today", "service"),
    Symptom("the check engine light is flashing", "today", "service"),
    Symptom("the car will not start this morning", "today", "service"),
    Symptom("the steering got very heavy since yesterday", "today", "service"),
    Symptom("the gas tank cap leaks when I fill up", "today", "service"),
    Symptom("the battery light stays on while driving", "today", "service"),
    Symptom("the seat belt airbag message will not go away", "today", "service"),
    Symptom("the brakes squeal a little in the morning", "soon", "service"),
    Symptom("the check engine light is on but it drives fine", "soon", "service"),
    Symptom("the air conditioning blows warm", "soon", "service"),
    Symptom("there is a small oil spot on my driveway", "soon", "service"),
    Symptom("the car pulls slightly to the right", "soon", "service"),
    Symptom("the transmission shifts roughly when cold", "soon", "service"),
    Symptom("the heater takes very long to warm up", "soon", "service"),
    Symptom("one headlight is dim", "soon", "service"),
    Symptom("I need an oil change", "routine", "service"),
    Symptom("it is time for my 30,000 mile service", "routine", "service"),
    Symptom("I want to rotate my tires", "routine", "service"),
    Symptom("my annual inspection is due next month", "routine", "service"),
    Symptom("I would like the cabin filter changed", "routine", "service"),
    Symptom("I want new wiper blades", "routine", "parts"),
    Symptom("I would like to order all-weather floor mats", "routine", "parts"),
    Symptom("I need a spare key fob", "routine", "parts"),
    Symptom("do you sell a roof rack for it", "routine", "parts"),
    Symptom("I am looking for a touch-up paint pen", "routine", "parts"),
    Symptom("I need a replacement gas cap, the old one is worn", "soon", "parts"),
    Symptom("there is a scratch on my door", "routine", "body_shop"),
    Symptom("someone dented my fender in a parking lot", "routine", "body_shop"),
    Symptom("I want an estimate for repainting the hood", "routine", "body_shop"),
    Symptom("my rear bumper hangs loose after a small crash", "today", "body_shop"),
    Symptom("the windshield has a crack that grows", "soon", "body_shop"),
    Symptom("the side mirror broke off", "soon", "body_shop"),
)
TRIAGE_FRAMES = (
    "{symptom}.",
    "I drive a {title} and {symptom}.",
    "{symptom}. It is a {title}.",
    "about my {model}: {symptom}.",
    "can you help? {symptom}.",
    "{symptom}, what should I do?",
)
