"""`POST /v1/messages/count_tokens`: the provider's own count where it can say, else our estimate."""

import orjson
from starlette.types import Receive, Send

from auterity_dagster.relaycore.chat import IMAGE_TOKENS_ESTIMATE
from auterity_dagster.serving.relaycore.answers import send_plain
from auterity_dagster.serving.relaycore.endpoint import Endpoint
from auterity_dagster.serving.relaycore.messages_request import read_prompt
from auterity_dagster.serving.relaycore.messages_wire import MessagesWire
from auterity_dagster.serving.relaycore.state import GatewayState
from auterity_dagster.serving.relaycore.wire import Asked, Body, Content


class CountTokens(Endpoint):
    """Costs nothing and writes nothing down; the prompt goes to the deployment that would answer, if it can count."""

    def __init__(self) -> None:
        super().__init__(_PromptWire())

    takes_claims = False

    async def _ask(self, state: GatewayState, asked: Asked, receive: Receive, send: Send) -> bool:
        route, count = await state.gateway.count_tokens(asked.request, asked.body)
        deployment = route.steps[0].deployment
        estimate = asked.request.prompt_tokens_estimate + asked.request.images * IMAGE_TOKENS_ESTIMATE
        headers = {
            "x-request-id": str(asked.request.id),
            "request-id": str(asked.request.id),
            "x-auterity-deployment": deployment.id,
            "x-auterity-token-count": "estimate" if count is None else "provider",
        }
        await send_plain(send, headers, orjson.dumps({"input_tokens": estimate if count is None else count}))
        return True


class _PromptWire(MessagesWire):
    """A request for a message without what only its answer needs."""

    def read(self, written: Body) -> Content:
        return read_prompt(written, is_stream=False, max_tokens=None)
