"""Writes `docs/model-families.md` from the tiny models: `python -m tests.model_families_page`.

A test says when the page is out of date.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers.cache_utils import LinearAttentionCacheLayerMixin

from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.hf.engine import HFEngine
from nad_agents.exceptions import UnsupportedModelError
from nad_agents.neurons.architectures import (
    decoder_layers,
    find_feed_forwards,
    find_unembedding,
    verify_feed_forwards,
)
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.types import SamplingConfig
from tests.model_families import FAMILIES, MULTIMODAL, REFUSED, Family, family_model
from tests.tiny_models import byte_tokenizer, make_model

PAGE = Path(__file__).parents[1] / "docs" / "model-families.md"

_PREFACE = """\
# Model families

Neurons are found by structure and not by name, so models of other families are recorded too if every matrix of their
layers is accounted for, and one forward pass shows that the neurons give what the feed-forward blocks compute. A model
for which that fails is refused by name before anything is generated. `nad doctor --model MODEL` says what was found.
An older version of transformers lacks some of these families; what it has is recorded.

This table is written by `python -m tests.model_families_page` from the tiny models on which the tests
compare what is recorded while decoding with the written formulas, neuron by neuron, in float32.

- *feed-forward*: `gated`, `fused` (gate and up in one matrix) or `plain`; `experts` are routed, and a dense block
  beside them is a shared expert. Layers with `none` have no numbers.
- *hybrid*: some layers mix tokens with a recurrent state or a convolution.
- *several prompts*: whether requests share a batch; otherwise they take turns.
- *recorder*: whether the activated neurons of both scores are those of the formulas.
- *attribution*: whether that score is defined; where it is not, `activation` alone is recorded.

## Recorded

"""

_MIXTURES = """
## Mixtures of experts

The activated neurons of a token are those of the experts that it was routed to, and of the shared expert. Neuron i of
expert e has the number e * f + i in its layer, and the shared expert's neurons follow those of all experts.

- `activation` is |h| times the weight of the expert in the layer's output, which is the router's weight with the
  constants that the layer multiplies it by; a shared expert has the weight 1, or that of its gate. So a mixture is
  scored as the one wide feed-forward block that it is: the input of its down projections, joined into one, is the
  weight times h, and zero for the experts that were not chosen. Without the weights an expert that hardly matters
  fills the set as much as the leading one; `NADConfig(router_weights=False)` takes them out.
- `attribution` is the weight times h times (W_U[y] . W_down[e][:, i]).
- Llama 4 scales the inputs of its experts instead of their outputs, so that h has the router's weight in it already.
- While decoding steps are recorded, the experts run in an implementation that records; for prompts, and where nothing
  is recorded, the model keeps the implementation that it was loaded with (`set_experts_implementation`).
- Experts that are quantized after loading are refused by name ([quantized models](how-to/quantized.md)).
- `benchmarks/experts.py` measures what that costs beside the implementations of transformers.

## Refused by name

"""


def page() -> str:
    """The text of `docs/model-families.md`."""
    rows = [
        "| family | `model_type` | feed-forward | hybrid | several prompts | recorder | attribution |",
        f"|{'---|' * 7}",
    ]
    rows.extend("| " + " | ".join(_row(family)) + " |" for family in (*FAMILIES, *MULTIMODAL))
    refused = [f"| {family.name} | {_refusal(family)} |" for family in REFUSED]
    table = "\n".join(rows)
    return f"{_PREFACE}{table}\n{_MIXTURES}| family | reason |\n|---|---|\n" + "\n".join(refused) + "\n"


def _row(family: Family) -> tuple[str, ...]:
    model = family_model(family.name)
    blocks = verify_feed_forwards(model, find_feed_forwards(model))
    engine = HFEngine(model, byte_tokenizer())
    engine.start(GenerationRequest([5, 6, 7], SamplingConfig(n=2, max_new_tokens=2, seed=0), RecordingConfig()))
    kinds = list(dict.fromkeys(block.kind for block in blocks))
    if len(blocks) < len(decoder_layers(model)[1]):
        kinds.append("none")
    try:
        for block in blocks:
            block.check_attribution()
        find_unembedding(model)
        attribution = "yes"
    except UnsupportedModelError:
        attribution = "no"
    with torch.no_grad():
        cache = model(input_ids=torch.tensor([[5, 6, 7]]), use_cache=True).past_key_values
    hybrid = any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in cache.layers)
    return (
        family.name,
        family.architecture,
        ", ".join(kinds),
        "yes" if hybrid else "no",
        "yes" if engine.can_join() else "turns",
        "yes",
        attribution,
    )


def _refusal(family: Family) -> str:
    model = make_model(family.architecture, **family.options)
    try:
        verify_feed_forwards(model, find_feed_forwards(model))
    except UnsupportedModelError as error:
        return str(error).partition(";")[0]
    msg = f"{family.name} is not refused"
    raise AssertionError(msg)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
