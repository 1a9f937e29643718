"""The words of generator B, which makes evaluation items: none of them stands in generator A."""

from auterity_dagster.neuroweaver.corpus.words import CatalogVehicle, Symptom

DEALERSHIPS = ("Harborline Vehicle Center", "Cedar Point Motorcars", "Ironwood Drive")

FIRST_NAMES = (
    *("Aisha", "Bruno", "Celeste", "Dario", "Edith", "Fiona", "Gideon", "Helga", "Ivo", "Joyce", "Kwame", "Lena"),
    *("Milos", "Nora", "Otis", "Pia", "Rhys", "Selma", "Tariq", "Ulla", "Viggo", "Wren", "Ximena", "Yolanda", "Zora"),
)

VEHICLES = (
    CatalogVehicle("Honda", "Odyssey", ("EX-L", "Elite")),
    CatalogVehicle("Honda", "Civic", ("Sport", "EX")),
    CatalogVehicle("Toyota", "Highlander", ("LE", "Limited")),
    CatalogVehicle("Toyota", "Corolla", ("LE", "XSE")),
    CatalogVehicle("Ford", "Bronco", ("Big Bend", "Badlands")),
    CatalogVehicle("Ford", "Explorer", ("XLT", "ST")),
    CatalogVehicle("Chevrolet", "Traverse", ("LT", "RS")),
    CatalogVehicle("Subaru", "Forester", ("Premium", "Touring")),
    CatalogVehicle("Jeep", "Cherokee", ("Latitude", "Trailhawk")),
    CatalogVehicle("Nissan", "Pathfinder", ("SV", "SL")),
    CatalogVehicle("Mazda", "CX-5", ("Select", "Turbo")),
    CatalogVehicle("Kia", "Sorento", ("LX", "SX")),
    CatalogVehicle("Hyundai", "Santa Fe", ("SEL", "Calligraphy")),
    CatalogVehicle("Volkswagen", "Tiguan", ("S", "SE R-Line")),
    CatalogVehicle("GMC", "Acadia", ("Elevation", "Denali")),
)

STOCK_LETTERS = "NPRSTUVWXYZ"
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
CLOCK_TIMES = (
    "08:15",
    "08:45",
    "09:15",
    "09:45",
    "10:15",
    "11:45",
    "12:15",
    "13:15",
    "14:45",
    "15:15",
    "16:45",
    "17:15",
)
HOURS = ("Mon-Fri 8:15-18:45", "Tue-Sat 9:15-17:45")
SERVICES = (
    *("15,000 mile service", "45,000 mile service", "75,000 mile service", "engine air filter change"),
    *("power steering fluid change", "timing belt replacement", "differential fluid service", "seasonal tire change"),
)

LEAD_QUESTIONS = {
    "available": (
        ("Did the {title} sell, or could it still be mine?", "Could the {title} still be mine or did it sell?"),
        ("Curious whether your {model} has found a buyer.", "Has your {model} found a buyer?"),
        (
            "Your ad shows a {title}. Can somebody confirm that it exists?",
            "Can you confirm the {title} in your ad exists?",
        ),
        (
            "Before I drive an hour: have you really got this {model}?",
            "I live an hour away. Have you really got the {model}?",
        ),
    ),
    "price": (
        ("Could you quote me the {title}?", "A quote for the {title} would be great."),
        (
            "Money question: the {model} comes to how much with everything?",
            "With everything, the {model} comes to how much?",
        ),
        (
            "Your page shows no number for the {title}. Which one is it?",
            "I found no number for the {title}. Which is it?",
        ),
    ),
    "visit": (
        (
            "We'd love to sit in the {title}. Possible on a weekday?",
            "Would a weekday work for us to sit in the {title}?",
        ),
        ("Which slots are open for driving your {model}?", "For driving your {model}, which slots are open?"),
    ),
    "discount": (
        (
            "If I sign today, how far below sticker would the {title} go?",
            "How far below sticker is the {title} if I sign today?",
        ),
        (
            "Friends told me to haggle over the {model}. So: do you haggle?",
            "Do you haggle over the {model}? Friends say so.",
        ),
    ),
    "financing": (
        (
            "My credit score is 580. Would the {title} be approved?",
            "Would you approve the {title} with a score of 580?",
        ),
        (
            "Roughly which monthly payment belongs to the {model}?",
            "Which monthly payment belongs to the {model}, roughly?",
        ),
    ),
    "nothing": (
        ("Our club wants a {wish} next spring; anything coming up?", "Anything coming up if our club wants a {wish}?"),
        ("Has a {wish} turned up recently?", "Did a {wish} turn up recently?"),
    ),
}
STOCK_QUESTIONS = (
    (
        "Run through every {make} {model} you could show me.",
        "Which {make} {model} could you show me? Run through them.",
    ),
    ("My neighbour wants a {model}. Anything to report?", "Anything to report for a neighbour who wants a {model}?"),
    ("Is your yard home to a {make} {model} today?", "Today, is your yard home to a {make} {model}?"),
    ("Stock numbers for the {model}, if they exist, please.", "If they exist, send stock numbers for the {model}."),
    ("I'd swap my sedan for a {make} {model}. Have you one?", "Have you one {make} {model} that I could swap into?"),
)
WISHES = (
    "motorhome",
    "two-seat roadster",
    "hydrogen car",
    "six-wheel pickup",
    "vintage wagon",
    "right-hand-drive jeep",
)

SYMPTOMS = (
    (
        Symptom("I press the brake and nothing happens", "stop_driving", "service"),
        "pressing the brake does nothing at all",
    ),
    (
        Symptom("I can hardly stop, the brakes feel gone", "stop_driving", "service"),
        "the brakes feel gone, I can hardly stop",
    ),
    (Symptom("the steering jams while I park", "stop_driving", "service"), "while parking the steering jams"),
    (
        Symptom("a puddle of fuel forms below the tank", "stop_driving", "service"),
        "below the tank a puddle of fuel forms",
    ),
    (
        Symptom("I see flames or smoke near the engine", "stop_driving", "service"),
        "smoke, maybe flames, near the engine",
    ),
    (Symptom("a front wheel is about to come off, lug nuts are missing", "stop_driving", "service"), ""),
    (Symptom("an airbag warning appeared on the dash", "today", "service"), "the dash shows an airbag warning"),
    (Symptom("there is metal-on-metal noise when braking", "today", "service"), "braking makes a metal-on-metal noise"),
    (Symptom("it overheats in traffic", "today", "service"), "in traffic it overheats"),
    (Symptom("the engine dies at every red light", "today", "service"), "at every red light the engine dies"),
    (Symptom("turning the key only gives a click", "today", "service"), "only a click when I turn the key"),
    (
        Symptom("there is a faint fuel smell after refuelling", "today", "service"),
        "after refuelling I notice a faint fuel smell",
    ),
    (
        Symptom("an amber engine lamp has been lit for a week", "soon", "service"),
        "for a week an amber engine lamp is lit",
    ),
    (Symptom("the climate control no longer cools", "soon", "service"), "cooling of the climate control is gone"),
    (Symptom("I hear a hum from the rear on the highway", "soon", "service"), "on the highway the rear hums"),
    (Symptom("it idles unevenly on cold mornings", "soon", "service"), ""),
    (Symptom("please schedule an oil service", "routine", "service"), "an oil service, please"),
    (
        Symptom("I want my winter tires swapped for summer ones", "routine", "service"),
        "swap winter tires for summer ones",
    ),
    (Symptom("the 45,000 mile check is coming up", "routine", "service"), "coming up: the 45,000 mile check"),
    (Symptom("what do rubber mats for the trunk cost", "routine", "parts"), "I'd like rubber mats for the trunk"),
    (Symptom("I lost a key and want to order another", "routine", "parts"), "please order me another key, I lost one"),
    (
        Symptom("do you carry bike carriers for the hitch", "routine", "parts"),
        "bike carriers for the hitch, do you have them",
    ),
    (
        Symptom("a shopping cart left a mark on the fender", "routine", "body_shop"),
        "the fender has a mark from a shopping cart",
    ),
    (
        Symptom("I would like a quote for a paint respray", "routine", "body_shop"),
        "a paint respray, could you quote it",
    ),
    (Symptom("hail left dents all over the roof", "routine", "body_shop"), "all over the roof there are hail dents"),
    (Symptom("a stone chipped my windshield and it spreads", "soon", "body_shop"), "my windshield chip spreads"),
)
SAFETY_WORDS = ("brake", "braking", "steering", "airbag", "fuel", "wheel is about")
TRIAGE_FRAMES = (
    "{symptom}. Any advice?",
    "Short version: {symptom}.",
    "It's a {title}, and here is the story: {symptom}.",
)
