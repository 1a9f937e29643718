"""The gateway stage: a developer's first calls with the official OpenAI SDK, and why they went where they did."""

import httpx
from openai import OpenAI

from auterity_dagster.demo.results import GatewayResult, SdkAnswer
from auterity_dagster.demo.stage import DemoContext
from auterity_dagster.money import in_usd
from auterity_dagster.prompt import load_prompts

_TASK = "lead_reply"
_VALUES = {
    "dealership": "Lakeside Motors",
    "facts": (
        "- stock H26110: 2026 Honda CR-V EX, new, available, total price $36,310\n"
        "- appointment times: Saturday 10:00 or Saturday 14:00"
    ),
    "customer": "Marisol Teague",
    "question": "Is the CR-V still on the lot? I can come by Saturday morning.",
}


def call_gateway(context: DemoContext) -> None:
    """Ask the sandbox and, if the gate let it through, the specialised model; then ask why `auto` chose as it did."""
    prompt = load_prompts(context.announcement.config_dir / "prompts")[_TASK]
    system, user = prompt.render(_VALUES)
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    url = context.announcement.urls.gateway
    specialisation = context.state.specialisation
    deployed = (specialisation.deployment_id,) if specialisation and specialisation.deployment_id else ()
    models = ("sandbox-small", *deployed, "auto")
    answers: list[SdkAnswer] = []
    with OpenAI(base_url=f"{url}/v1", api_key=context.organization.api_key, max_retries=2) as client:
        for model in models:
            context.progress.tell(f"asking {model}")
            body = {"model": model, "messages": messages, "max_tokens": prompt.max_output_tokens}
            answers.append(_answer(client, body))
            answers.append(_stream(client, body))
    explained = httpx.post(
        f"{url}/v1/route:explain",
        json={"model": "auto", "messages": messages, "max_tokens": prompt.max_output_tokens},
        headers={"authorization": f"Bearer {context.organization.api_key}", "x-auterity-task": _TASK},
        timeout=30,
    )
    explained.raise_for_status()
    context.state.gateway = GatewayResult(answers=tuple(answers), explanation=tuple(_explanation(explained.json())))


def _answer(client: OpenAI, body: dict) -> SdkAnswer:
    raw = client.chat.completions.with_raw_response.create(**body, extra_headers={"x-auterity-task": _TASK})
    completion = raw.parse()
    return SdkAnswer(
        model=body["model"],
        is_stream=False,
        deployment=raw.headers["x-auterity-deployment"],
        text=completion.choices[0].message.content or "",
        cost_nusd=int(raw.headers["x-auterity-cost-nusd"]),
    )


def _stream(client: OpenAI, body: dict) -> SdkAnswer:
    texts: list[str] = []
    facts: dict = {}
    stream = client.chat.completions.create(**body, stream=True, extra_headers={"x-auterity-task": _TASK})
    for chunk in stream:
        texts += [choice.delta.content for choice in chunk.choices if choice.delta.content]
        facts |= (chunk.model_extra or {}).get("x_auterity", {})
    return SdkAnswer(
        model=body["model"],
        is_stream=True,
        deployment=stream.response.headers["x-auterity-deployment"],
        text="".join(texts),
        cost_nusd=facts.get("cost_nusd"),
    )


def _explanation(explained: dict) -> list[str]:
    lines = [f"policy {explained['policy']}, rule {explained['rule']}, objective {explained['objective']}"]
    for candidate in explained["candidates"]:
        what = f"quality {candidate['quality_mean']:.2f}, surely at least {candidate['quality_lower_bound']:.2f}" + (
            f", about ${in_usd(candidate['expected_cost_nusd'])}" if candidate["expected_cost_nusd"] else ""
        )
        lines.append(f"{candidate['deployment_id']}: {what}: {_place(candidate)}")
    return lines


def _place(candidate: dict) -> str:
    if candidate["place"] is None:
        return str(candidate["removed_by"])
    return "chosen" if candidate["place"] == 0 else f"fallback {candidate['place']}"
