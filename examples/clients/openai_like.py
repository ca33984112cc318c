"""LlamaIndex over `nad serve`: pip install llama-index-llms-openai-like.

In a process of its own `llama_index.llms.nad.NADLLM` needs no server; this is for several processes that share a model.
"""

import json
import os

from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel, Field

llm = OpenAILike(
    model=os.environ.get("NAD_MODEL", "coder@n=8,selector=knn"),
    api_base=os.environ.get("NAD_API_BASE", "http://127.0.0.1:8000/v1"),
    api_key=os.environ.get("NAD_API_KEY", "local-key"),
    context_window=8192,
    max_tokens=60,
    is_chat_model=True,
    is_function_calling_model=True,
    # what OpenAI's protocol has no word for
    additional_kwargs={"seed": 1, "extra_body": {"nad": {"include_candidates": True}}},
)


class Person(BaseModel):
    """A person."""

    name: str = Field(max_length=20)
    age: int = Field(le=150)


def main() -> None:
    question = [ChatMessage(role="user", content="Name a fruit.")]
    reply = llm.chat(question)
    evidence = reply.raw.nad
    print("chat:", reply.message.content)
    print("stream:", "".join(piece.delta or "" for piece in llm.stream_chat(question)))
    print("candidates:", [candidate["text"][:20] for candidate in evidence["candidates"]])
    print("complete:", llm.complete("Ada Lovelace was").text)
    person = llm.as_structured_llm(Person).complete("Ada Lovelace died at 36.")
    print("person:", json.dumps(person.raw.model_dump()))


if __name__ == "__main__":
    main()
