"""Looking at what a chat model streams."""

from langchain_core.callbacks import BaseCallbackHandler
from langchain_nad.outputs import LangChainChat

from nad_agents import NADConfig, SamplingConfig
from nad_agents.chat.params import Settings
from nad_agents.chat.prepare import PreparedChat
from nad_agents.chat.response_parser import ToolCallParser
from nad_agents.events import Finished, TextDelta


def streamed(text, output_spec, selection, parser=None):
    """A call's chunks for an answer that arrives a character at a time."""
    settings = Settings(None, SamplingConfig(), NADConfig(), None, include_candidates=False)
    parser = parser or ToolCallParser(tuple(output_spec.names))
    call = LangChainChat(None, settings, PreparedChat([], output_spec, parser))
    chunks = [chunk.message for char in text for chunk in call.chunks(TextDelta(char))]
    chunks += [chunk.message for chunk in call.chunks(Finished(selection.model_copy(update={"text": text})))]
    return chunks, call.message(selection.model_copy(update={"text": text}))


def outline(calls):
    return [(call["name"], call["args"]) for call in calls]


class Listener(BaseCallbackHandler):
    def __init__(self):
        self.events, self.tokens = [], []

    def on_custom_event(self, name, data, *, run_id, **kwargs):
        self.events.append((name, data, run_id))

    def on_llm_new_token(self, token, **kwargs):
        self.tokens.append(token)
