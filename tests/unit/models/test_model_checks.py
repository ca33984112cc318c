"""Which models can be used, and how long their context is."""

from __future__ import annotations

import pytest
from transformers import AutoConfig

from nad_agents.exceptions import UnsupportedModelError
from nad_agents.models.model_checks import check_decoder_only, check_not_embedding, context_length
from tests.model_families import MULTIMODAL


class TestModelChecks:
    def test_decoders_pass(self):
        for family in ("llama", "qwen2", "gpt2"):
            check_decoder_only(AutoConfig.for_model(family), family)

    @pytest.mark.parametrize("family", ["llama4", *(family.architecture for family in MULTIMODAL)])
    def test_multimodal_models_with_a_text_decoder_pass(self, family):
        check_decoder_only(AutoConfig.for_model(family), family)

    @pytest.mark.parametrize(
        ("family", "said"),
        [
            ("t5", "encoder-decoder"),
            ("t5gemma2", "encoder-decoder"),
            ("florence2", "encoder-decoder"),
            ("vit", "not a causal"),
            ("siglip", "not a causal"),
            ("clip", "not a causal"),
            ("blip-2", "not a causal"),
            ("diffusion_gemma", "not a causal"),
            ("whisper", "encoder-decoder"),
        ],
    )
    def test_others_are_refused_by_name(self, family, said):
        with pytest.raises(UnsupportedModelError, match=f"some-model is .*{said}"):
            check_decoder_only(AutoConfig.for_model(family), "some-model")

    @pytest.mark.parametrize(
        ("family", "architecture", "said"),
        [
            ("llama", "LlamaForSequenceClassification", "another task"),
            ("qwen2", "Qwen2ForRewardModel", "another task"),
            ("qwen2", "Qwen2ForProcessRewardModel", "another task"),
            ("gemma2", "Gemma2ForTokenClassification", "another task"),
            ("mistral", "MistralModel", "no language-model head"),
            ("qwen3", "Qwen3Model", "no language-model head"),
        ],
    )
    def test_reward_classification_and_embedding_models_are_refused(self, family, architecture, said):
        config = AutoConfig.for_model(family, architectures=[architecture])
        with pytest.raises(UnsupportedModelError, match=f"{said} .*{architecture}"):
            check_decoder_only(config, "some-model")

    @pytest.mark.parametrize(
        ("family", "architecture"),
        [
            ("gpt2", "GPT2LMHeadModel"),
            ("llama4", "Llama4ForConditionalGeneration"),
            ("llama", "LlamaForCausalLM"),
            ("qwen2", "SomebodysQwen2"),
        ],
    )
    def test_generating_classes_pass(self, family, architecture):
        check_decoder_only(AutoConfig.for_model(family, architectures=[architecture]), family)

    def test_an_embedding_model_that_is_stored_as_a_causal_one(self, tmp_path):
        check_not_embedding(tmp_path, "some-model")
        (tmp_path / "modules.json").write_text(
            '[{"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]'
        )
        with pytest.raises(UnsupportedModelError, match="some-model is an embedding model"):
            check_not_embedding(tmp_path, "some-model")

    def test_context_length(self):
        assert context_length(AutoConfig.for_model("gpt2", n_positions=77)) == 77
        assert context_length(AutoConfig.for_model("llama", max_position_embeddings=88)) == 88
        assert context_length(AutoConfig.for_model("mamba")) is None
