"""What the model accepts, what it refuses, and what its parameters mean."""

import copy
import pickle

import pytest
from langchain_core.load import dumpd, dumps, load
from langchain_core.runnables import ConfigurableField
from langchain_nad import NADChatModel

from nad_agents import ConfigurationError, NADConfig, SamplingConfig, UnknownSelectorError, VerificationConfig
from nad_agents.chat.params import NAD_FIELDS, SAMPLING_FIELDS
from nad_agents.models import DEFAULT_MODEL
from tests.unit.langchain.chats import tiny_chat

may_load = pytest.mark.filterwarnings("ignore:The function `load` is in beta")


def reload(chat):
    return load(dumpd(chat), allowed_objects=[NADChatModel], valid_namespaces=["langchain_nad"])


def test_defaults_are_those_of_the_library():
    settings = NADChatModel().settings()
    assert settings.sampling == SamplingConfig()
    assert settings.config == NADConfig()
    assert NADChatModel().model_name == DEFAULT_MODEL
    defaults = NADChatModel.model_fields
    for field, name in {**SAMPLING_FIELDS, **dict(zip(NAD_FIELDS, NAD_FIELDS, strict=True))}.items():
        if field not in {"n", "selector", "stop"}:  # None and a list stand for the library's default
            config = SamplingConfig if field in SAMPLING_FIELDS else NADConfig
            assert defaults[field].get_default(call_default_factory=True) == getattr(config(), name), field
    assert set(SAMPLING_FIELDS.values()) == set(SamplingConfig.model_fields)


def test_names_of_other_integrations_work():
    chat = NADChatModel(model="a/b", max_new_tokens=7, stop_sequences="END")
    assert (chat.model_name, chat.max_tokens, chat.stop) == ("a/b", 7, ["END"])
    assert NADChatModel(model_name="a/b", max_tokens=7, stop=["END"]).settings() == chat.settings()
    assert chat.settings({"max_new_tokens": 9}).sampling.max_new_tokens == 9


def test_a_path_is_a_model(tmp_path):
    assert NADChatModel(model=tmp_path).model_name == str(tmp_path)


def test_greedy_has_one_candidate_unless_more_are_asked_for():
    settings = NADChatModel(temperature=0).settings()
    assert (settings.sampling.n, settings.config.selector, settings.config.record) == (1, "first", False)
    assert NADChatModel().settings({"temperature": 0}).sampling.n == 1
    with pytest.raises(ConfigurationError, match="temperature 0 gives 4 identical candidates"):
        NADChatModel(temperature=0, n=4)
    with pytest.raises(ConfigurationError, match="temperature 0"):
        NADChatModel(n=4).settings({"temperature": 0})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temprature": 0.5}, "no parameter 'temprature'; did you mean 'temperature'"),
        ({"api_key": "x"}, "no parameter 'api_key'"),
        ({"temperature": -1}, "temperature=-1.0"),
        ({"temperature": "warm"}, "temperature='warm'"),
        ({"n": 0}, "n=0"),
        ({"n": 1, "selector": "knn"}, "compares at least 2 candidates, but n=1"),
        ({"selector": "knnn"}, "did you mean 'knn'"),
        ({"similarity": "jacard"}, "similarity='jacard'"),
        ({"stop": [""]}, r"stop=\[''\] has an empty string"),
        ({"timeout": 0}, "timeout=0"),
        ({"max_retries": -1}, "max_retries=-1"),
        ({"record": False, "selector": "knn"}, "record"),
        ({"verifier": "docker"}, "verifier='docker' has no methods verify and fingerprint"),
        ({"nad_config": NADConfig(), "selector": "medoid"}, "nad_config and selector are both given"),
    ],
)
def test_refused_at_once(options, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        NADChatModel(**options)
    assert "\n" not in str(caught.value)


def test_refused_in_a_call_before_anything_runs():
    chat = NADChatModel(model="/nowhere")
    for kwargs in ({"temprature": 1}, {"n": 0}, {"verifier": None}, {"device": "cpu"}):
        with pytest.raises(ConfigurationError):
            chat.invoke("hi", **kwargs)
    with pytest.raises(UnknownSelectorError):
        tiny_chat().invoke("hi", selector="nothing")


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": 0},
        {"n": 0},
        {"temperature": -1},
        {"stop": [""]},
        {"timeout": 0},
        {"timeout": "soon"},
        {"timeout": float("nan")},
        {"include_candidates": "some"},
    ],
)
def test_a_value_of_a_call_is_refused_by_the_name_that_the_caller_wrote(options):
    (name,) = options
    with pytest.raises(ConfigurationError, match=f"^{name}="):
        tiny_chat().invoke("hi", **options)


def test_nad_config_is_taken_whole():
    config = NADConfig(selector="medoid", chunk_size=4)
    assert NADChatModel(nad_config=config).settings().config == config
    assert NADChatModel(nad_config=config).settings({"selector": "knn"}).config.chunk_size == 4
    assert NADChatModel(nad_config={"selector": "medoid", "chunk_size": 4}).settings().config == config


def test_a_given_decoders_own_configuration_holds_unless_overridden():
    from tests.unit.langchain.chats import tiny_decoder

    decoder = tiny_decoder(sampling=SamplingConfig(n=3, temperature=0.9), config=NADConfig(selector="medoid"))
    settings = NADChatModel(decoder=decoder, temperature=0.4).settings()
    assert (settings.sampling.n, settings.sampling.temperature) == (3, 0.4)
    assert settings.config.selector == "medoid"
    with pytest.raises(ConfigurationError, match="does not go with decoder="):
        NADChatModel(decoder=decoder).invoke("hi", model="another")


@may_load
def test_serialisation():
    chat = NADChatModel(
        model="a/b", n=4, temperature=0.3, stop=["x"], verification=VerificationConfig(parallel=3), seed=0
    )
    assert reload(chat).asdict() == chat.asdict()
    for other in (chat, NADChatModel(temperature=0), NADChatModel(nad_config=NADConfig(selector="medoid"))):
        assert reload(other).settings() == other.settings()


@may_load
def test_a_verifier_is_never_lost_silently():
    class Anything:
        def verify(self, answer, *, prompt=""):
            raise NotImplementedError

        def fingerprint(self, answer):
            return answer

    with pytest.raises(NotImplementedError):
        reload(NADChatModel(verifier=Anything()))


def test_the_cache_key_holds_everything_that_changes_the_answer():
    class Anything:
        def verify(self, answer, *, prompt=""):
            raise NotImplementedError

        def fingerprint(self, answer):
            return answer

    base = {"model": "a/b", "n": 4, "temperature": 0.5}
    variants = [
        {}, {"model": "a/c"}, {"n": 5}, {"temperature": 0.6}, {"top_p": 0.5}, {"seed": 1}, {"selector": "medoid"},
        {"selector_options": {"top_k_neurons": 2}}, {"pruning": "first_chunk"}, {"keep": 2}, {"chunk_size": 16},
        {"stop": ["x"]},
        {"max_tokens": 9}, {"verifier": Anything()}, {"generation_options": {"no_repeat_ngram_size": 3}},
        {"dtype": "float32"}, {"include_candidates": True}, {"output_version": "v1"},
    ]  # fmt: skip
    keys = {NADChatModel(**{**base, **variant})._get_llm_string() for variant in variants}
    assert len(keys) == len(variants)
    chat = NADChatModel(**base)
    assert chat._get_llm_string(stop=["x"]) != chat._get_llm_string() == NADChatModel(**base)._get_llm_string()
    assert chat._get_llm_string(n=3) != chat._get_llm_string()


def test_describes_itself_for_traces():
    chat = NADChatModel(model="a/b", temperature=0.5, max_tokens=9, stop=["x"])
    params = chat._get_ls_params(model="other", stop=["y"])
    assert params["ls_model_name"] == "other"
    assert params["ls_stop"] == ["y"]
    assert chat._get_ls_params() == {
        "ls_provider": "nad", "ls_model_type": "chat", "ls_model_name": "a/b", "ls_temperature": 0.5,
        "ls_max_tokens": 9, "ls_stop": ["x"],
    }  # fmt: skip
    assert "nad-agents" in chat.metadata["lc_versions"]
    assert chat.profile["text_outputs"] is True
    dumps(chat)


def test_copies_and_other_processes_load_for_themselves():
    chat = NADChatModel(model="a/b", n=3)
    chat._loaded.decoder = object()
    for other in (copy.deepcopy(chat), pickle.loads(pickle.dumps(chat))):
        assert other.settings() == chat.settings()
        assert other._loaded.decoder is None


def test_fields_can_be_configured_at_runtime():
    chat = tiny_chat().configurable_fields(n=ConfigurableField(id="n"))
    assert chat.with_config(configurable={"n": 2}).invoke("hi").response_metadata["nad"]["n"] == 2
