"""Tool calls as every family writes them, read back."""

import time
from itertools import pairwise

import pytest

from nad_agents.chat.growing_tool_calls import partial_tool_calls, stable_prefix
from nad_agents.chat.tool_formats import FORMATS, find_format
from nad_agents.chat.tool_parser import parse_answer

CALLS = (
    '<tool_call>\n{"name": "add", "arguments": {"a": "}{\\"", "b": [1, {"name": "x", "arguments": {}}]}}\n</tool_call>'
    '\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
)


def calls(text, names=("add", "now")):
    parsed = parse_answer(text, names)
    assert not parsed.invalid, parsed.invalid
    return parsed.content, [(c.name, c.arguments) for c in parsed.calls]


@pytest.mark.parametrize("form", FORMATS.values(), ids=lambda f: f.name)
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"a": 1, "b": [1.5, None, {"c": "}"}]},
        {"town": '你好 "quoted" \\ é'},
        # marks of every family, as text
        {"text": "</tool_call> <tool_call> [TOOL_CALLS] <|python_tag|>"},
        {"text": '{"name": "now", "arguments": {}}'},
    ],
)
def test_what_a_family_writes_is_read_back(form, arguments):
    one = f"{form.opening}{form.write('add', arguments)}{form.closing}"
    assert calls(one) == ("", [("add", arguments)])
    two = form.opening + form.separator.join([form.write("add", arguments), form.write("now", {})]) + form.closing
    assert calls(two) == ("", [("add", arguments), ("now", {})])


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ('I will add.\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>', "I will add."),
        ('<tool_call>{"name": "add", "arguments": {"a": 1}}', ""),
        ('```json\n{"name": "add", "arguments": {"a": 1}}\n```', ""),
        ('Sure:\n```json\n{"name": "add", "arguments": {"a": 1}}\n```\nDone.', "Sure:"),
        ('<|python_tag|>{"name": "add", "parameters": {"a": 1}}', ""),
        ('[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1}}]', ""),
        ('[{"name": "add", "arguments": {"a": 1}}]', ""),
        ('{"name": "add", "arguments": "{\\"a\\": 1}"}', ""),
        ('Sure. {"type": "function", "name": "add", "parameters": {"a": 1}}', "Sure."),
        ('{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}', ""),
        ('[{"function": {"name": "add", "arguments": "{\\"a\\": 1}"}}]', ""),
        ('{\n  "name": "add",\n  "arguments": {"a": 1}\n}\nThis adds.', ""),
    ],
)
def test_variations_of_real_models(text, content):
    assert calls(text) == (content, [("add", {"a": 1})])


@pytest.mark.parametrize(
    "text", ["", "no call", "{", '{"a": 1}', '{"name": "Anna", "age": 3}', "[1, 2]", "f(x) = {y}", "```\ncode\n```"]
)
def test_what_is_no_call_stays_text(text):
    parsed = parse_answer(text, ("add",))
    assert (parsed.content, parsed.calls, parsed.invalid) == (text, (), ())


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('<tool_call>\n{"name": "add", "argum', "breaks off"),
        ("<tool_call>\nnonsense\n</tool_call>", "breaks off or is malformed"),
        ('<tool_call>{"arguments": {}}</tool_call>', "needs a name"),
        ('{"name": "add", "arguments": {"a": ', "breaks off"),
        ('{"name": "add", "arguments": [1]}', "no JSON object"),
        ('{"name": "add", "arguments": "a=1"}', "no JSON"),
    ],
)
def test_what_cannot_be_read_is_an_invalid_call(text, error):
    parsed = parse_answer(text, ("add",))
    assert not parsed.calls
    assert len(parsed.invalid) == 1
    assert error in parsed.invalid[0].error
    assert parsed.invalid[0].id


def test_a_good_call_before_a_broken_one_is_kept():
    parsed = parse_answer('{"name": "add", "arguments": {}}\n{"name": "add", "arg', ("add",))
    assert (len(parsed.calls), len(parsed.invalid)) == (1, 1)


def test_every_call_has_its_own_id():
    text = '{"name": "add", "arguments": {}}\n{"name": "add", "arguments": {}}'
    first, second = parse_answer(text, ("add",)).calls
    assert first.id != second.id


def test_a_stream_holds_back_what_may_be_a_call():
    assert stable_prefix("Let me see. \n", ("add",)) == "Let me see."
    assert stable_prefix("Sure:\n``", ("add",)) == "Sure:"
    for text in ('{"name', "<tool", "[TOOL", "```json"):
        assert stable_prefix(text, ("add",)) == ""


@pytest.mark.parametrize(
    ("template", "name"),
    [
        (None, "generic"),
        ("{{ messages }}", "generic"),
        ("{% if tools %}<tool_call></tool_call>{% endif %}", "hermes"),
        ("{% if tools %}[AVAILABLE_TOOLS][TOOL_CALLS]{% endif %}", "mistral"),
        ('{% if tools %}<|start_header_id|>{"name": , "parameters": }{% endif %}', "llama3"),
        ("{% if tools %}something of their own{% endif %}", "generic"),
    ],
)
def test_the_family_is_found_by_what_the_template_says(template, name):
    assert find_format(template).name == name


@pytest.mark.parametrize(
    ("text", "certain"),
    [
        ('x {"name": "ad', "x"),
        ('x {"name": "Bo', 'x {"name": "Bo'),
        ("x [ {", "x"),
        ("x [1", "x [1"),
        ("x <", "x"),
        ("x <b>", "x <b>"),
        ("x <tool_call>{}", "x"),
        ("x ```js", "x"),
        ("x ```js\n", "x ```js"),
        ("x [TOOL", "x"),
        ("1. [a](b) {", "1. [a](b)"),
    ],
)
def test_what_may_become_a_call_is_held_back(text, certain):
    assert stable_prefix(text, ["add"]) == certain


def test_calls_grow():
    seen = [partial_tool_calls(CALLS[:end]) for end in range(len(CALLS) + 1)]
    assert seen[-1] == [("add", '{"a": "}{\\"", "b": [1, {"name": "x", "arguments": {}}]}'), ("now", "{}")]
    for earlier, later in pairwise(seen):
        assert len(earlier) <= len(later)
        for (name, arguments), (same, longer) in zip(earlier, later, strict=False):
            assert (same, longer[: len(arguments)]) == (name, arguments)
    assert [c.arguments for c in parse_answer(CALLS, ["add", "now"]).calls][1] == {}


WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SCHEMAS = {"get_weather": WEATHER, "now": {"type": "object", "properties": {}}}
CATALOGUE_ENTRY = (
    '{"type": "function", "function": {"name": "get_weather", "description": "d", "parameters": '
    '{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}'
)


def read(text, **options):
    parsed = parse_answer(text, tuple(SCHEMAS), schemas=SCHEMAS, **options)
    return parsed.content, [(call.name, call.arguments) for call in parsed.calls], list(parsed.invalid)


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        'The tools are: [{"name": "get_weather", "description": "Weather of a city"}]',
        '[{"name": "get_weather", "description": "Weather of a city"}, {"name": "now", "description": "Time"}]',
        '{"name": "now", "age": 3}',
        '{"name": "now"}',
        '{"name": "now", "arguments": {}, "age": 3}',
        CATALOGUE_ENTRY,
        f"[{CATALOGUE_ENTRY}]",
        '{"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}',
        '{"name": "now", "parameters": {"type": "object", "properties": {}}}',
        '{"name": "get_weather", "arguments": {"town": "Paris"}}',
        '{"name": "get_weather", "arguments": {"city": ["Paris"]}}',
        '{"people": [{"name": "now", "age": 3}]}',
        '{"name": "now", "age"',
        '{"name": "now", ',
    ],
)
def test_ordinary_json_is_no_call(text, marked):
    if text == '{"name": "now", ':
        text += '"age": '
    assert read(text, marked=marked) == (text, [], [])


def test_a_call_after_ordinary_json_is_found():
    text = '[{"name": "get_weather", "description": "d"}]\n{"name": "get_weather", "arguments": {"city": "Rome"}}'
    assert read(text)[1] == [("get_weather", {"city": "Rome"})]


@pytest.mark.parametrize(
    "before", ['{"name": "now", "arguments": {}}', 'For example {"name": "now", "arguments": {}}', CATALOGUE_ENTRY]
)
@pytest.mark.parametrize("mark", ["<tool_call>", "[TOOL_CALLS]", "<|python_tag|>"])
def test_a_marked_call_wins_over_bare_json_before_it(before, mark):
    text = f'{before}\n{mark}{{"name": "get_weather", "arguments": {{"city": "Rome"}}}}'
    for marked in (False, True):
        content, found, invalid = read(text, marked=marked)
        assert (content.strip(), found, invalid) == (before, [("get_weather", {"city": "Rome"})], [])


def test_a_family_with_marks_does_not_call_in_prose():
    call = '{"name": "now", "arguments": {}}'
    assert read(f"One would write {call} here.", marked=True)[1] == []
    assert read(call, marked=True)[1] == [("now", {})]
    assert read(f"```json\n{call}\n```", marked=True)[1] == [("now", {})]


@pytest.mark.parametrize("mark", ["", "<tool_call>\n"])
@pytest.mark.parametrize("arguments", ['{"city": "Par', '{"city": ', "{", '{"city": "a\\"}'])
def test_a_cut_call_keeps_the_text_of_its_arguments(mark, arguments):
    parsed = parse_answer(f'{mark}{{"name": "get_weather", "arguments": {arguments}', tuple(SCHEMAS), schemas=SCHEMAS)
    assert [(call.name, call.text) for call in parsed.invalid] == [("get_weather", arguments)]
    assert parsed.finish_reason("length") == "length"


def test_a_cut_call_after_a_whole_one_is_no_finished_answer():
    text = '<tool_call>{"name": "now", "arguments": {}}</tool_call><tool_call>{"name": "now", "argu'
    parsed = parse_answer(text, tuple(SCHEMAS))
    assert [call.text for call in parsed.invalid] == [""]
    assert (parsed.finish_reason("length"), parsed.finish_reason("stop")) == ("length", "tool_calls")


@pytest.mark.parametrize("mark", ["<tool_call>", "[TOOL_CALLS]", "[TOOL_CALLS][", "<|python_tag|>"])
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ('{"city": ["Paris"]}', "city: ['Paris'] is not of type 'string'"),
        ('{"city": 3}', "city: 3 is not of type 'string'"),
        ('{"town": "Paris"}', "'city' is a required property"),
        ('{"type": "object", "properties": {"city": {"type": "string"}}}', "a schema, not values"),
        ('{"city": "Paris", "days": NaN}', "no JSON"),
        ('{"city": "Paris", "days": [-1e9999]}', "no JSON"),
    ],
)
def test_a_marked_call_that_does_not_fit_is_invalid_with_the_reason(mark, arguments, reason):
    text = f'{mark}{{"name": "get_weather", "arguments": {arguments}}}'
    content, found, (invalid,) = read(text)
    assert (content, found, invalid.name, invalid.text) == ("", [], "get_weather", arguments)
    assert reason in invalid.error


def test_arguments_in_a_string_keep_a_number_that_is_infinite_in_python():
    content, found, (invalid,) = read(r'<tool_call>{"name": "now", "arguments": "{\"x\": 1e9999}"}</tool_call>')
    assert (content, found, invalid.name, invalid.text) == ("", [], "now", '{"x": 1e9999}')


def test_a_marked_catalogue_entry_is_no_call():
    content, found, (invalid,) = read(f"<tool_call>{CATALOGUE_ENTRY}</tool_call>")
    assert (content, found, invalid.name) == ("", [], "get_weather")


@pytest.mark.parametrize("text", ["<tool_call>%s</tool_call>", "%s", "[TOOL_CALLS][%s]"])
def test_a_number_that_was_written_as_a_string_is_mended(text):
    schemas = {"wait": {"type": "object", "properties": {"seconds": {"type": "integer"}}}}
    call = text % '{"name": "wait", "arguments": {"seconds": "5"}}'
    (found,) = parse_answer(call, ("wait",), schemas=schemas).calls
    assert found.arguments == {"seconds": 5}


@pytest.mark.parametrize("text", ['[{"name": "now", "arguments": {}}, %s]', '{"name": "now", "arguments": {}} %s'])
@pytest.mark.parametrize("other", ['{"name": "now", "age": 3}', '{"name": "get_weather", "description": "d"}'])
def test_ordinary_json_beside_a_bare_call_is_no_call(text, other):
    assert read(text % other)[1:] in (([], []), ([("now", {})], []))
    assert [name for name, _ in read(text % other)[1]].count("get_weather") == 0


@pytest.mark.parametrize("mark", ["", "[TOOL_CALLS]"])
def test_a_list_that_breaks_off_keeps_its_first_calls(mark):
    text = mark + '[{"name": "now", "arguments": {}}, {"name": "get_weather", "arguments": {"city": "Pa'
    _, found, (cut,) = read(text)
    assert found == [("now", {})]
    assert (cut.name, cut.text) == ("get_weather", '{"city": "Pa')


@pytest.mark.parametrize("mark", ["", "<tool_call>", "[TOOL_CALLS]"])
@pytest.mark.parametrize("value", ["9" * 5000, "[" * 100_000, '{"a":' * 100_000, "[" * 950 + "]" * 950])
def test_numbers_and_nesting_that_no_decoder_reads(mark, value):
    found = parse_answer(f'{mark}{{"name": "now", "arguments": {{"x": {value}}}}}', tuple(SCHEMAS), schemas=SCHEMAS)
    assert not found.calls or mark
    assert all(call.name == "now" for call in found.invalid)


ROME = '{"name": "get_weather", "arguments": {"city": "Rome"}}'


@pytest.mark.parametrize(
    "text",
    [
        f'{{"tools": [{ROME}]}}',
        f'{{"role": "assistant", "tool_calls": [{ROME}]}}',
        f'For example: [1, {{"example": {ROME}}}] and so on.',
        f"Well.\n<think>{ROME}</think>No.",
        f"<thinking>{ROME}</thinking>No.",
        f"<REASONING>{ROME}",
        f"Hm. <think>a</think> <think>\n```json\n{ROME}\n```\n</think>",
        f"Hm. <think><tool_call>{ROME}</tool_call></think>No.",
        f"Hm. <think>[TOOL_CALLS][{ROME}]",
    ],
)
def test_nothing_within_other_json_or_thinking_is_a_call(text):
    assert read(text) == (text, [], [])


@pytest.mark.parametrize("mark", ["", "<tool_call>"])
def test_a_call_behind_other_json_or_thinking_is_one(mark):
    before = f'{{"tools": [{ROME}]}} <think>{ROME}<tool_call>{ROME}</tool_call></think>'
    content, found, invalid = read(f'{before} {mark}{{"name": "now", "arguments": {{}}}}')
    assert (content.strip(), found, invalid) == (before, [("now", {})], [])


def test_tags_of_thinking_in_arguments_are_text():
    text = '{"name": "get_weather", "arguments": {"city": "<think>"}} {"name": "now", "arguments": {}}'
    assert read(text)[1] == [("get_weather", {"city": "<think>"}), ("now", {})]


def test_many_brackets_take_no_time():
    started = time.process_time()
    assert parse_answer('["' * 20_000 + ROME, tuple(SCHEMAS), schemas=SCHEMAS).calls
    assert time.process_time() - started < 5
