"""Which models can be used, and how long their context is."""

from __future__ import annotations

from transformers import AutoConfig

from nad_agents.models.model_checks import check_decoder_only, context_length


class TestModelChecks:
    def test_decoders_pass(self):
        for family in ("llama", "qwen2", "gpt2"):
            check_decoder_only(AutoConfig.for_model(family), family)

    def test_context_length(self):
        assert context_length(AutoConfig.for_model("gpt2", n_positions=77)) == 77
        assert context_length(AutoConfig.for_model("llama", max_position_embeddings=88)) == 88
        assert context_length(AutoConfig.for_model("mamba")) is None
