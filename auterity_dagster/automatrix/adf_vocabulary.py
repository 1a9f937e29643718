"""The elements of ADF 1.0 by their parent, and what senders call them instead."""

from collections.abc import Mapping
from types import MappingProxyType

_CONTACT = "name email phone address"

CHILDREN: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        parent: frozenset(children.split())
        for parent, children in {
            "adf": "prospect",
            "prospect": "id requestdate vehicle customer vendor provider",
            "vehicle": "id year make model vin stock trim doors bodystyle transmission odometer condition "
            "colorcombination imagetag price pricecomments option finance comments",
            "colorcombination": "interiorcolor exteriorcolor preference",
            "option": "optionname manufacturercode stock weighting price",
            "finance": "method amount balance",
            "customer": "contact id timeframe comments",
            "timeframe": "description earliestdate latestdate",
            "vendor": "id vendorname url contact",
            "provider": "id name service url email phone contact",
            "contact": _CONTACT,
            "address": "street apartment city regioncode postalcode country",
        }.items()
    }
)

SYNONYMS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "regioncode": ("region", "state", "province"),
        "postalcode": ("zip", "zipcode", "postcode"),
        "stock": ("stocknumber", "stockno"),
        "odometer": ("mileage",),
        "comments": ("comment", "notes"),
    }
)
