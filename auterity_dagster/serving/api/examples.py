"""An example of every body that the API takes, by the name of its schema; the OpenAPI document shows them."""

from collections.abc import Mapping
from typing import Any

_DEALERSHIP = "b67b36e1-129c-4652-8266-789bcd50730b"
_DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
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

_POLICY = """schema_version: 2
name: our-dealership
defaults:
  objective: cheapest
  max_output_tokens: 512
  deadlines: {connect_s: 2, first_token_s: 15, idle_s: 20, total_s: 60}
  attempts: {max: 2, per_deployment: 1, max_cost_ratio: 10}
  breaker: {failures_in_a_row: 5, window_s: 30, min_calls: 20, failure_ratio: 0.5, slow_call_s: 20, open_s: 30,
            probes: 3}
deployments:
  - {id: sandbox-small, provider: sandbox, model: sandbox-small, price: sandbox/small,
     credential: "secret://sandbox_token",
     caps: {context_tokens: 128000, output_tokens: 8192, streaming: true}}
pools: {all: [sandbox-small]}
objectives: {cheapest: {minimize: cost}}
rules:
  - {id: default, priority: 0, when: always, then: {pool: all, on_no_candidates: relax}}
tests:
  - {name: everything, given: {features.task: chat}, expect: {rule: default, objective: cheapest}}
"""

_PRICES = """version: 1
prices:
  - key: openai/gpt-6-luna
    in_force_from: 2026-12-01
    source: "agreement with OpenAI of 2026-11-20, page 3"
    usd_per_mtok:
      - {input: "0.09", output: "0.45", cache_read: "0.009", cache_write_5m: "0.11"}
"""

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
    "ConsentWrite": {"text_version": "2026-11", "dealership_id": _DEALERSHIP},
    "ConnectionAdd": {
        "name": "valuation",
        "settings": {"kind": "http", "base_url": "https://api.valuation.example/v2", "scheme": "bearer"},
        "secret": "the key that the service gave",
    },
    "ContactConsentWrite": {
        "channel": "sms",
        "level": "written",
        "evidence": "Form of 2026-11-20, signed in the store",
    },
    "CustomerVehicleList": {
        "dealership_id": _DEALERSHIP,
        "rows": [
            {
                "external_key": "v-88",
                "customer_name": "Ana Ruiz",
                "channel": "email",
                "address": "ana.ruiz@example.com",
                "vin": "2HKRS4H42TH719547",
                "make": "Honda",
                "vehicle_model": "CR-V",
                "year": 2026,
            }
        ],
    },
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
    "DraftWrite": {"definition": _DEFINITION, "note": "A task instead of a message"},
    "EffectResolve": {"state": "failed"},
    "EventWrite": {
        "dealership_id": _DEALERSHIP,
        "type": "message.received",
        "subject": "contacts/marisol",
        "data": {"contact_id": "5c2f3a0e-5f0b-4b7e-9d7e-0b5a3a1f2c11", "text": "Saturday works"},
    },
    "ExecutionBulkWrite": {
        "action": "replay",
        "filter": {"workflow": "lead_response", "error": "provider_error"},
        "dry_run": True,
    },
    "ExecutionReplayWrite": {"from": "draft", "version": "newest", "data": {"comments": "Is the CR-V still there?"}},
    "DeploymentWrite": {"is_off": False, "weight_percent": 10, "note": "A tenth of the customers first"},
    "GroupDecisionWrite": {
        "decisions": [
            {"approval_id": "0198c2a4-6b1e-7c3a-9d2f-5e8b7a6c4d11", "decision": "approved"},
            {"approval_id": "0198c2a4-6b1e-7c3a-9d2f-5e8b7a6c4d12", "decision": "rejected"},
        ]
    },
    "InboundAccept": {"email": "ana@example.com", "prospect": 0},
    "AbsenceDecide": {"decision": "unlist"},
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
    "LiveWrite": {"is_live": True},
    "PolicyAdd": {"yaml": _POLICY, "note": "One model for everything"},
    "PolicyText": {"yaml": _POLICY},
    "PublishWrite": {"note": "Calls instead of messages"},
    "PriceImport": {"yaml": _PRICES},
    "RateLimitWrite": {"requests_per_minute": 600, "tokens_per_minute": 200_000},
    "RefreshTokenCarried": {"refresh_token": "the token that signing in gave"},
    "ReplayWrite": {"days": 14, "limit": 5000},
    "PinWrite": {"is_pinned": True},
    "PromotionWrite": {
        "to_digest": _DIGEST,
        "expected_digest": None,
        "weight_percent": 5,
        "reason": "Better than the base route on lead replies",
    },
    "RollbackWrite": {"expected_digest": _DIGEST, "reason": "Replies name the wrong opening hours"},
    "SecretWrite": {"secret": "the key that the service gave"},
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
    "SettleWrite": {"state": "in_force"},
    "SignIn": {"email": "owner@example.com", "password": "a long walk by the river", "refresh_token_in": "body"},
    "StartWrite": {
        "dealership_id": _DEALERSHIP,
        "subjects": [{"subject": "c-1042", "data": {"customer_name": "Ana Ruiz"}}],
    },
    "TrainingRunAdd": {
        "recipe": "smollm2_cpu_qlora",
        "reason": "person",
        "note": "The autumn stock",
        "budget_usd": "0.50",
        "conversations": 2000,
    },
    "SuppressionWrite": {"address": "+13125550141", "evidence": "Asked on the telephone"},
    "UserAdd": {
        "email": "sam@example.com",
        "name": "Sam Ortiz",
        "password": "a long walk by the river",
        "roles": ["manager"],
        "dealership_ids": [_DEALERSHIP],
    },
    "UserChange": {"roles": ["staff"]},
    "WebhookAdd": {"url": "https://hooks.dms.example/auterity", "topics": ["executions", "leads"]},
    "WebhookSourceWrite": {"dealership_id": _DEALERSHIP, "name": "Own website", "kind": "json"},
    "TrialWrite": {
        "event": {"type": "lead.received", "data": {"customer_name": "Marisol Teague", "vehicles": []}},
        "pins": {"draft": {"reply": "Saturday 10:00?", "checks": {"ok": True, "violations": []}}},
        "time_zone": "America/Chicago",
    },
    "WorkflowAdd": {"definition": _DEFINITION, "note": "First version", "variables": {}},
}
