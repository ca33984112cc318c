"""An application with a tiny model, and OpenAI's own client of it, for the tests that take these fixtures."""

import openai
import pytest

from tests.unit.server.servers import http, make_app


@pytest.fixture(scope="module")
def app():
    return make_app()


@pytest.fixture
async def client(app):
    async with (
        http(app) as wire,
        openai.AsyncOpenAI(base_url="http://server/v1", api_key="k", http_client=wire, max_retries=0) as found,
    ):
        yield found
