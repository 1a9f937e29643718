"""An example of every body that the API takes, by the name of its schema; the OpenAPI document shows them."""

from collections.abc import Mapping
from typing import Any

_DEALERSHIP = "b67b36e1-129c-4652-8266-789bcd50730b"
_DEFINITION = {
    "api_version": "automatrix/v1",
    "key": "thank_you",
    "name": "Thank the customer",
    "policies": ["ai_disclosure"],
    "triggers": [{"id": "by_hand", "type": "manual"}],
    "steps": [
        {
            "id": "call",
            "kind": "assign_task",
            "with": {"role": "manager", "title": "Thank ${{ event.data.customer_name }}", "due": "PT1H"},
        }
    ],
}

EXAMPLES: Mapping[str, Any] = {
    "ApiKeyAdd": {
        "name": "Website chat",
        "mode": "live",
        "scopes": ["gateway.call"],
        "purposes": ["interactive"],
        "dealership_ids": [_DEALERSHIP],
        "expires_in_days": 90,
    },
    "BudgetAdd": {
        "name": "AI spending a month",
        "scope": "organization",
        "period": "month",
        "time_zone": "America/Chicago",
        "cap_usd": "250.00",
        "enforcement": "hard",
    },
    "BudgetChange": {"cap_usd": "300.00", "alert_percents": [50, 80, 100]},
    "DealershipWrite": {
        "name": "Lakeside Motors",
        "time_zone": "America/Chicago",
        "street": "100 Lake Street",
        "city": "Chicago",
        "region": "IL",
        "postal_code": "60601",
        "country": "US",
    },
    "DecisionWrite": {"decision": "approved", "final": {"reply": "Hi Ana, the CR-V is here. Saturday at 10:00?"}},
    "DefinitionWrite": {"definition": _DEFINITION, "note": "A task instead of a message"},
    "InboundAccept": {"email": "ana@example.com", "prospect": 0},
    "InstallWrite": {"variables": {"auto_send": False}},
    "InventoryWrite": {
        "dealership_id": _DEALERSHIP,
        "rows": [
            {
                "stock_number": "H26110",
                "make": "Honda",
                "vehicle_model": "CR-V",
                "year": 2026,
                "condition": "new",
                "status": "available",
                "total_price_usd": "36310.00",
            }
        ],
    },
    "RateLimitWrite": {"requests_per_minute": 600, "tokens_per_minute": 200_000},
    "RefreshTokenCarried": {"refresh_token": "the token that signing in gave"},
    "ServiceDueList": {
        "dealership_id": _DEALERSHIP,
        "rows": [
            {
                "external_key": "c-1042",
                "customer_name": "Ana Ruiz",
                "channel": "sms",
                "address": "+13125550141",
                "vehicle": "2021 Toyota RAV4",
                "service": "30,000 mile service",
                "times": ["Tuesday 08:30", "Thursday 13:00"],
                "due_at": "2026-12-01T00:00:00Z",
            }
        ],
    },
    "SignIn": {"email": "owner@example.com", "password": "a long walk by the river", "refresh_token_in": "body"},
    "StartWrite": {
        "dealership_id": _DEALERSHIP,
        "subjects": [{"subject": "c-1042", "data": {"customer_name": "Ana Ruiz"}}],
    },
    "UserAdd": {
        "email": "sam@example.com",
        "name": "Sam Ortiz",
        "password": "a long walk by the river",
        "roles": ["manager"],
        "dealership_ids": [_DEALERSHIP],
    },
    "UserChange": {"roles": ["staff"]},
    "WebhookSourceWrite": {"dealership_id": _DEALERSHIP, "name": "Own website", "kind": "json"},
    "WorkflowAdd": {"definition": _DEFINITION, "note": "First version", "variables": {}},
}
