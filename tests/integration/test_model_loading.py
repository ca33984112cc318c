"""Models loaded for real: the default one through PyPI, tiny ones from folders, GGUF files and a local hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import gguf
import pytest
import torch
from huggingface_hub import constants
from transformers import AutoTokenizer

from nad_agents.exceptions import ModelLoadError, UnsupportedModelError
from nad_agents.models import DEFAULT_MODEL, LoadedModel, describe_cache, load_model
from tests.tiny_models import byte_tokenizer, make_model, save_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny model saved as anybody would."""
    path = tmp_path / "tiny-llama"
    save_model(make_model("llama"), path)
    return path


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAD_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def answer(loaded: LoadedModel, question: str, tokens: int = 60) -> list[int]:
    """Greedy continuation of a chat prompt, as token ids."""
    prompt = loaded.tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.inference_mode():
        out = loaded.model.generate(**prompt, max_new_tokens=tokens, do_sample=False)
    return out[0, prompt["input_ids"].shape[1] :].tolist()


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedModel]:
    """The default model by way of PyPI; its conversion stays in the user's cache, so that it happens once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        patch.setattr(constants, "HF_HUB_CACHE", str(tmp_path_factory.mktemp("hub")))
        load_model(progress=print)
        started = time.perf_counter()
        loaded = load_model()
        print(f"second load of the default model: {time.perf_counter() - started:.2f} s")
        yield loaded


class TestDefaultModel:
    """What comes out of the conversion of a real model."""

    def test_what_it_says_of_itself(self, loaded):
        assert (loaded.name, loaded.source, loaded.revision) == (DEFAULT_MODEL.split("/")[1], "embedded", None)
        assert loaded.context_length == loaded.tokenizer.model_max_length == 8192
        assert not loaded.model.training
        assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
        assert loaded.path in {entry.path for entry in describe_cache()}
        assert loaded.dtype == loaded.model.lm_head.weight.dtype

    def test_answers_and_stops(self, loaded):
        ids = answer(loaded, "What is the capital of France?")
        assert "Paris" in loaded.tokenizer.decode(ids)
        assert ids[-1] == loaded.tokenizer.convert_tokens_to_ids("<|im_end|>")

    def test_end_tokens_and_padding(self, loaded):
        end, text_end = loaded.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
        assert set(loaded.model.generation_config.eos_token_id) == {end, text_end}
        assert loaded.model.generation_config.pad_token_id == loaded.tokenizer.pad_token_id == end

    def test_digits_are_single_tokens(self, loaded):
        # as in the original tokenizer, and lost when transformers reads the GGUF file by itself
        assert loaded.tokenizer.tokenize("x = 1234") == ["x", "Ġ=", "Ġ", "1", "2", "3", "4"]

    def test_text_survives_tokenization(self, loaded):
        text = "def f(x):\n\treturn x  # naïve 日本 🙂\n"
        ids = loaded.tokenizer(text).input_ids
        assert loaded.tokenizer.decode(ids) == text
        assert ids[0] != loaded.tokenizer.bos_token_id


class TestFolder:
    def test_same_weights_and_answers(self, folder):
        loaded = load_model(folder, device="cpu", dtype="float32")
        assert (loaded.name, loaded.source, loaded.path) == ("tiny-llama", "folder", folder)
        assert (loaded.device, loaded.dtype, loaded.context_length) == (torch.device("cpu"), torch.float32, 512)
        ids = torch.tensor([[5, 6, 7]])
        assert torch.equal(loaded.model(ids).logits, make_model("llama")(ids).logits)
        assert not any(parameter.requires_grad for parameter in loaded.model.parameters())

    def test_dtype_is_applied(self, folder):
        assert load_model(str(folder), dtype="bfloat16").dtype == torch.bfloat16

    def test_base_model_without_chat_template(self, folder):
        byte_tokenizer(chat=False).save_pretrained(folder)
        (folder / "chat_template.jinja").unlink()
        assert load_model(folder).tokenizer.chat_template is None

    def test_end_token_is_taken_from_the_tokenizer(self, folder):
        for name in ("config.json", "generation_config.json"):
            values = json.loads((folder / name).read_text())
            values["eos_token_id"] = None
            (folder / name).write_text(json.dumps(values))
        assert load_model(folder).model.generation_config.eos_token_id == byte_tokenizer().eos_token_id

    def test_nothing_is_printed(self, folder, capfd):
        load_model(folder)
        assert capfd.readouterr() == ("", "")

    def test_truncated_weights(self, folder):
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
        with pytest.raises(ModelLoadError, match="weights of tiny-llama cannot be read"):
            load_model(folder)

    def test_weights_of_another_shape(self, folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 40}))
        with pytest.raises(ModelLoadError, match="weights of tiny-llama") as error:
            load_model(folder)
        assert "\n" not in str(error.value)

    def test_weights_without_head(self, folder):
        model = make_model("llama", tie_word_embeddings=False)
        model.model.save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"architectures": ["LlamaForCausalLM"]}))
        with pytest.raises(ModelLoadError, match=r"lacks 1 weights .* lm_head\.weight"):
            load_model(folder)

    def test_without_tokenizer(self, folder):
        for file in folder.glob("tokenizer*"):
            file.unlink()
        with pytest.raises(ModelLoadError, match="tokenizer") as error:
            load_model(folder)
        assert "\n" not in str(error.value)

    def test_code_that_is_not_trusted(self, folder):
        config = json.loads((folder / "config.json").read_text())
        config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine", "AutoModelForCausalLM": "mine.Model"}}
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(ModelLoadError, match="trust_remote_code=True") as error:
            load_model(folder)
        assert "\n" not in str(error.value)


D, FF, LAYERS, HEADS, KV_HEADS = 32, 64, 2, 4, 2
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def write_gguf(path: Path, *, quantised: bool = True, architecture: str = "llama", scale: float = 0.3) -> None:
    """A random llama with a byte-level vocabulary, in which "12" is one token unless digits are split first."""
    letters = list(byte_tokenizer().get_vocab())
    letters = sorted(letter for letter in letters if len(letter) == 1)
    tokens = [*SPECIAL, *letters, "12"]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(128)
    writer.add_block_count(LAYERS)
    writer.add_embedding_length(D)
    writer.add_feed_forward_length(FF)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(D // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(letters) + 1))
    writer.add_token_merges(["1 2"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template("{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}")
    torch.manual_seed(0)
    narrow = D // HEADS * KV_HEADS
    shapes = {"token_embd": (len(tokens), D), "output_norm": (D,)}
    for layer in range(LAYERS):
        parts = {"attn_q": (D, D), "attn_k": (narrow, D), "attn_v": (narrow, D), "attn_output": (D, D)}
        parts |= {"ffn_gate": (FF, D), "ffn_up": (FF, D), "ffn_down": (D, FF), "attn_norm": (D,), "ffn_norm": (D,)}
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in parts.items()}
    kind = gguf.GGMLQuantizationType.Q8_0
    for name, shape in shapes.items():
        weight = (torch.randn(shape) * scale).numpy()
        if quantised and len(shape) > 1:
            writer.add_tensor(f"{name}.weight", gguf.quants.quantize(weight, kind), raw_dtype=kind)
        else:
            writer.add_tensor(f"{name}.weight", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def weight_in(path: Path, name: str) -> torch.Tensor:
    tensor = next(tensor for tensor in gguf.GGUFReader(path).tensors if tensor.name == name)
    return torch.tensor(gguf.dequantize(tensor.data, tensor.tensor_type))


@pytest.mark.usefixtures("own_cache")
class TestGGUF:
    @pytest.mark.parametrize("quantised", [True, False])
    def test_weights_tokenizer_and_generation_config(self, tmp_path, quantised):
        path = tmp_path / "tiny.gguf"
        write_gguf(path, quantised=quantised)
        lines: list[str] = []
        loaded = load_model(path, device="cpu", dtype="float32", progress=lines.append)
        assert (loaded.name, loaded.source, loaded.context_length) == ("tiny", "gguf", 128)
        assert len(lines) == 1
        expected = weight_in(path, "blk.1.ffn_down.weight")
        # quantised files are stored in float16, others in their own type
        tolerance = {"rtol": 2**-11, "atol": 1e-7} if quantised else {"rtol": 0, "atol": 0}
        torch.testing.assert_close(loaded.model.model.layers[1].mlp.down_proj.weight, expected, **tolerance)
        assert loaded.model.generation_config.eos_token_id == [2, 0]
        assert loaded.tokenizer.tokenize("a12") == ["a", "1", "2"]
        chat = loaded.tokenizer.apply_chat_template([{"role": "user", "content": "a"}], return_dict=True)
        assert chat["input_ids"] == [1, loaded.tokenizer.convert_tokens_to_ids("a"), 2]
        assert load_model(path, progress=lines.append).path == loaded.path
        assert len(lines) == 1, "it was converted a second time"

    def test_files_beside_it_are_not_mixed_in(self, tmp_path):
        write_gguf(tmp_path / "tiny.gguf")
        make_model("gpt2").config.save_pretrained(tmp_path)
        byte_tokenizer().save_pretrained(tmp_path)
        loaded = load_model(tmp_path / "tiny.gguf")
        assert loaded.model.config.model_type == "llama"
        assert loaded.tokenizer.eos_token == "<|im_end|>"

    def test_weights_too_large_for_float16_are_kept(self, tmp_path):
        write_gguf(tmp_path / "huge.gguf", scale=1e5)
        loaded = load_model(tmp_path / "huge.gguf", dtype="float32")
        assert describe_cache()[0].manifest["dtype"] == "float32"
        torch.testing.assert_close(
            loaded.model.model.embed_tokens.weight, weight_in(tmp_path / "huge.gguf", "token_embd.weight")
        )

    def test_nothing_but_the_notice_is_printed(self, tmp_path):
        write_gguf(tmp_path / "tiny.gguf")
        script = f"from nad_agents.models import load_model; load_model({str(tmp_path / 'tiny.gguf')!r})"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        assert "converting tiny.gguf to safetensors, once" in done.stderr

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
    def test_truncated(self, tmp_path, share):
        path = tmp_path / "tiny.gguf"
        write_gguf(path)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(ModelLoadError, match="truncated or damaged") as error:
            load_model(path)
        assert "\n" not in str(error.value)
        assert describe_cache() == ()

    def test_architecture_that_transformers_does_not_read(self, tmp_path):
        write_gguf(tmp_path / "tiny.gguf", architecture="wavtokenizer-dec")
        with pytest.raises(UnsupportedModelError, match="wavtokenizer-dec") as error:
            load_model(tmp_path / "tiny.gguf")
        assert "\n" not in str(error.value)
        assert describe_cache() == ()


class HubHandler(SimpleHTTPRequestHandler):
    """Serves files under /owner/name/resolve/revision/ with the headers that a hub client reads."""

    def end_headers(self) -> None:
        self.send_header("X-Repo-Commit", "1" * 40)
        self.send_header("ETag", f'"{abs(hash(self.path.rsplit("/", 1)[-1])):x}"')
        super().end_headers()

    def translate_path(self, path: str) -> str:
        return str(Path(self.directory) / path.rsplit("/", 1)[-1]) if "/resolve/" in path else "/nonexistent"

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self.send_response(code if self.path != "/" else 200)
        self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def test_hub_then_its_cache_without_network(folder: Path, tmp_path: Path):
    script = (
        "from nad_agents.models import load_model; m = load_model('owner/tiny'); "
        "print(m.name, m.source, m.path.name, m.context_length)"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}

    def load() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(HubHandler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
        try:
            online = load()
        finally:
            server.shutdown()
    expected = f"tiny hub {'1' * 40} 512"
    assert online.stdout.strip() == expected, online.stderr
    assert online.stderr.strip() == "fetching owner/tiny from the Hugging Face Hub, once"
    offline = load()
    assert (offline.stdout.strip(), offline.stderr) == (expected, "")


def test_tokenizers_are_the_same_after_the_cache(own_cache: Path, tmp_path: Path):
    write_gguf(tmp_path / "tiny.gguf")
    loaded = load_model(tmp_path / "tiny.gguf")
    again = AutoTokenizer.from_pretrained(loaded.path)
    assert again.get_vocab() == loaded.tokenizer.get_vocab()
    assert again.model_max_length == 128
