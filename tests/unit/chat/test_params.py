"""Parameters of every model: said once, on the configs; equal and printed by what they are; inherited or none."""

import copy
import inspect
import pickle
import pydoc
import typing

import annotated_types
import pytest
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_nad import NADLLM, NADChatModel
from llama_index.llms.nad import NADLLM as LlamaIndexNADLLM

from nad_agents import ConfigurationError, NADConfig, SamplingConfig, VerificationConfig
from nad_agents.chat.params import NAD_FIELDS, SAMPLING_FIELDS
from nad_agents.testing import AcceptingVerifier
from tests.unit.langchain.chats import NEURONS, tiny_decoder

CLASSES = [NADChatModel, NADLLM, LlamaIndexNADLLM]
each_class = pytest.mark.parametrize("cls", CLASSES, ids=["chat", "completion", "llama_index"])

OPTIONS = [(field, SamplingConfig, name) for field, name in SAMPLING_FIELDS.items()]
OPTIONS += [(name, NADConfig, name) for name in NAD_FIELDS]
each_option = pytest.mark.parametrize(("field", "config", "name"), OPTIONS, ids=[field for field, *_ in OPTIONS])

OTHER_DEFAULTS = {"n": None, "selector": None, "stop": []}
"""What differs from the config's default: None stands for a default that depends on other parameters."""

OTHER_TYPES = {"n", "selector", "stop", "generation_options", "selector_options"}
"""Types that take None as well, or lists and dicts where a frozen config has tuples and mappings."""


def out_of_bounds(config, name):
    """Values that the bounds of a config's field refuse."""
    for bound in config.model_fields[name].metadata:
        if isinstance(bound, annotated_types.Ge):
            yield bound.ge - 1
        elif isinstance(bound, annotated_types.Gt):
            yield bound.gt
        elif isinstance(bound, annotated_types.Le):
            yield bound.le + 1


def test_no_option_is_missing_and_none_has_two_meanings():
    assert set(SAMPLING_FIELDS.values()) == set(SamplingConfig.model_fields)
    assert not SAMPLING_FIELDS.keys() & set(NAD_FIELDS)


@each_class
@each_option
def test_an_option_is_what_its_config_says(cls, field, config, name):
    option, source = cls.model_fields[field], config.model_fields[name]
    assert option.description.startswith(source.description)
    default = option.get_default(call_default_factory=True)
    assert default == OTHER_DEFAULTS.get(field, source.get_default(call_default_factory=True))
    if field not in OTHER_TYPES:
        assert typing.get_type_hints(cls)[field] == typing.get_type_hints(config)[name]


@each_class
@each_option
def test_the_bounds_are_those_of_the_config(cls, field, config, name):
    for value in out_of_bounds(config, name):
        with pytest.raises(ConfigurationError, match=rf"\b{field}={value}"):
            cls(**{field: value})
        with pytest.raises(ConfigurationError, match=rf"^{field}={value}"):
            cls().settings({field: value})


def test_most_options_have_bounds():
    assert len([field for field, config, name in OPTIONS if [*out_of_bounds(config, name)]]) == 19


def test_defaults_that_depend_on_others_name_the_configs_own():
    assert f"None means {SamplingConfig().n}" in NADChatModel.model_fields["n"].description
    assert f"None means {NADConfig().selector!r}" in NADChatModel.model_fields["selector"].description


@each_class
def test_every_field_is_described_where_help_shows_it(cls):
    shown = pydoc.render_doc(cls, renderer=pydoc.plaintext)
    for name, field in cls.model_fields.items():
        assert field.description, name
        assert f"{field.alias or name}: {field.description.split()[0]}" in shown, name
    # and in the signature
    parameters = inspect.signature(cls).parameters
    assert {"n", "selector", "verifier", "timeout"} <= parameters.keys()
    assert not any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def test_the_frameworks_own_classes_stay_as_they_are():
    assert BaseChatModel.model_fields["cache"].description is None


@each_class
class TestValues:
    def test_equal_by_their_parameters(self, cls):
        assert cls(n=4) == cls(n=4)
        assert cls() == cls(temperature=SamplingConfig().temperature)
        changes = {"model": "a/b", "n": 5, "selector": "medoid", "stop": ["x"], "seed": 1, "timeout": 3, "wave": 2}
        changes |= {
            "verification": VerificationConfig(parallel=3),
            "selector_options": {"top_k_neurons": 2},
            "max_retries": 1,
        }
        for name, value in changes.items():
            assert cls(**{"n": 4, name: value}) != cls(n=4), name
            assert cls(**{"n": 4, name: value}) == cls(**{"n": 4, name: copy.copy(value)}), name
        assert cls(n=4) != object()
        assert [cls(n=4) != other(n=4) for other in CLASSES].count(True) == len(CLASSES) - 1

    def test_equal_whether_weights_are_loaded_or_not(self, cls):
        fresh, loaded = cls(n=4), cls(n=4)
        loaded._loaded.decoder = object()
        assert fresh == loaded == pickle.loads(pickle.dumps(loaded)) == copy.deepcopy(loaded)
        assert repr(fresh) == repr(loaded)

    def test_different_where_one_inherits_and_one_switches_off(self, cls):
        decoder = tiny_decoder(verifier=AcceptingVerifier())
        assert cls(decoder=decoder) == cls(decoder=decoder)
        assert cls(decoder=decoder) != cls(decoder=decoder, verifier=None)
        assert cls(decoder=decoder) == cls(decoder=decoder, verifier=decoder.verifier)
        assert cls(decoder=decoder) != cls(decoder=tiny_decoder())

    def test_the_repr_shows_what_was_given(self, cls):
        assert repr(cls()) == f"{cls.__name__}()"
        assert repr(cls(n=4, temperature=0.8, stop="x")) == f"{cls.__name__}(n=4, stop=['x'])"
        assert repr(cls(decoder=tiny_decoder(), seed=3)) == f"{cls.__name__}(seed=3)"


@each_class
class TestInheritOrNone:
    sampling = SamplingConfig(n=3, temperature=0.9, seed=11, stop=("END",), min_p=0.1, max_new_tokens=6)
    config = NADConfig(selector="medoid", compare_chunks=2, layers=(0, 1), top_k_neurons=12, top_k_neurons_per_layer=12)

    def decoder(self, **options):
        return tiny_decoder(sampling=self.sampling, config=self.config, **options)

    def test_what_is_left_out_is_the_decoders(self, cls):
        verifier, verification = AcceptingVerifier(), VerificationConfig(max_checks=1)
        model = cls(decoder=self.decoder(verifier=verifier, verification=verification))
        settings = model.settings()
        assert (settings.sampling, settings.config) == (self.sampling, self.config)
        assert (settings.verifier, settings.verification) == (verifier, verification)
        assert (model.seed, model.stop, model.temperature, model.verifier) == (11, ["END"], 0.9, verifier)

    def test_none_is_none(self, cls):
        nothing = {"seed": None, "stop": [], "min_p": None, "compare_chunks": None, "layers": None, "verifier": None}
        settings = cls(decoder=self.decoder(verifier=AcceptingVerifier()), **nothing).settings()
        assert (settings.sampling.seed, settings.sampling.stop, settings.sampling.min_p) == (None, (), None)
        assert (settings.config.compare_chunks, settings.config.layers, settings.verifier) == (None, None, None)
        assert (settings.sampling.n, settings.config.selector) == (3, "medoid")

    def test_the_same_in_a_call(self, cls):
        model = cls(decoder=self.decoder(), timeout=5, wave=2)
        settings = model.settings({"seed": None, "stop": [], "timeout": None, "wave": None, "min_p": None})
        assert (settings.sampling.seed, settings.sampling.stop, settings.timeout) == (None, (), None)
        assert (settings.sampling.wave, settings.sampling.min_p) == (None, None)
        # where None is no value it leaves the model's own
        assert model.settings({"temperature": None, "max_tokens": None}) == model.settings({})

    def test_without_a_decoder_a_call_that_names_none_leaves_the_models_own(self, cls):
        assert (
            cls(max_tokens=9, keep=2).settings({"max_tokens": None, "keep": None})
            == cls(max_tokens=9, keep=2).settings()
        )

    def test_what_is_no_decoder_is_refused(self, cls):
        with pytest.raises(ConfigurationError, match="decoder='tiny' is no NeuronAgreementDecoder"):
            cls(decoder="tiny")


def ask(model, **options):
    """The evidence for an answer of any of the models."""
    if isinstance(model, NADChatModel):
        return model.invoke("hello", **options).response_metadata["nad"]
    if isinstance(model, NADLLM):
        return model.generate(["hello"], **options).generations[0][0].generation_info["nad"]
    return model.complete("hello", **options).raw["nad"]


@each_class
def test_answers_are_checked_and_seeded_as_the_parameters_say(cls):
    verifier = AcceptingVerifier()
    sampling = SamplingConfig(n=2, seed=11, max_new_tokens=3, top_k=0)
    config = NADConfig(
        top_k_neurons=NEURONS["top_k_neurons"], top_k_neurons_per_layer=NEURONS["top_k_neurons_per_layer"]
    )
    decoder = tiny_decoder(sampling=sampling, config=config, verifier=verifier)
    inherited = ask(cls(decoder=decoder))
    assert inherited["verification"]["passed"] is False
    assert (inherited["seed"], len(verifier.calls)) == (11, 2)
    free = cls(decoder=decoder, verifier=None, seed=None)
    assert "verification" not in ask(free)
    assert len(verifier.calls) == 2
    assert len({ask(free)["seed"], ask(free)["seed"], 11}) == 3
    assert ask(cls(decoder=decoder), seed=None)["seed"] != 11


def test_what_is_inherited_survives_configurable_fields():
    from langchain_core.runnables import ConfigurableField

    decoder = tiny_decoder(sampling=SamplingConfig(n=2, seed=11, max_new_tokens=3), verifier=AcceptingVerifier())
    chat = NADChatModel(decoder=decoder, **NEURONS).configurable_fields(n=ConfigurableField(id="n"))
    evidence = chat.with_config(configurable={"n": 3}).invoke("hi").response_metadata["nad"]
    assert (evidence["n"], evidence["seed"], evidence["verification"]["passed"]) == (3, 11, False)


def test_the_cache_key_tells_an_inherited_verifier_from_none():
    decoder = tiny_decoder(verifier=AcceptingVerifier())
    keys = {NADChatModel(decoder=decoder, **options)._get_llm_string() for options in ({}, {"verifier": None})}
    assert len(keys) == 2
