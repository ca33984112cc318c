"""Questions about the files of a folder, answered by LlamaIndex with the best of N candidates.

    python examples/llama_index_query.py [--model ID] [--n 4] [--tokens 80] [--folder FOLDER] [QUESTION]

The passages are found by their words, so that there is no embedding to fetch. Where no folder is given, two notes are
written for the occasion.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path

from llama_index.core import Settings, SimpleDirectoryReader, SimpleKeywordTableIndex
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.node_parser import SentenceSplitter
from llama_index.llms.nad import NADLLM
from rich.console import Console

QUESTION = "When does the library close on Friday?"
NOTES = {
    "library.txt": "The library opens at nine. On Friday the library closes at six in the evening.",
    "pool.txt": "The swimming pool is heated in winter. Swimmers need a cap.",
}


def words(text: str) -> list[str]:
    """How texts are cut for the splitter and the counter; a tokenizer of another model would have to be fetched."""
    return re.findall(r"\w+|\W", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("question", nargs="?", default=QUESTION)
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct", help="hub id, folder or GGUF file")
    parser.add_argument("--n", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    console = Console()

    # 1. the model, with a counter of its tokens
    counter = TokenCountingHandler(tokenizer=words)
    llm = NADLLM(model=args.model, n=args.n, max_tokens=args.tokens, temperature=0.5, seed=args.seed)
    Settings.callback_manager = CallbackManager([counter])

    # 2. the folder, as a table of keywords
    with tempfile.TemporaryDirectory() as made:
        if args.folder is None:
            for name, text in NOTES.items():
                (Path(made) / name).write_text(text, encoding="utf-8")
        documents = SimpleDirectoryReader(args.folder or made).load_data()
    for document in documents:
        # paths and dates would distract a small model
        document.excluded_llm_metadata_keys = list(document.metadata)
    splitter = SentenceSplitter(chunk_size=200, chunk_overlap=20, tokenizer=words)
    index = SimpleKeywordTableIndex.from_documents(documents, llm=llm, transformations=[splitter])

    # 3. ask
    answer = index.as_query_engine(llm=llm, retriever_mode="simple").query(args.question)
    console.print(str(answer), markup=False)
    console.rule("sources")
    for found in answer.source_nodes:
        console.print(found.metadata["file_name"], found.text[:80].replace("\n", " "), markup=False)
    console.print(f"[dim]{counter.prompt_llm_token_count} tokens read, {counter.completion_llm_token_count} written[/]")


if __name__ == "__main__":
    main()
