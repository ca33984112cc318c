"""Judge the words around a call and its value: they may tell of an example, a bug, a question or a condition."""

from __future__ import annotations

import re

__all__ = ["RELATION", "docstring_spans", "doubt_after", "doubt_before", "is_approximate", "tells_of_a_bug"]

_TO_GIVE = r"(?:return|give|yield|be(?: equal to)?|equal|output|print|produce|evaluate to|result in|become)"
RELATION = re.compile(
    r"(?P<closer>[`*]{0,3})[^\S\n]*,?[^\S\n]*(?P<comment>(?:\#|//)?)[^\S\n]*(?:"
    r"(?P<denied>!=|≠|<>|(?:(?:is|are|was|does|do|did|has|can|could|should|must|may|will|would)(?:n['’]t| not)"
    r"|can['’]t|cannot|never)\b)"
    r"|(?P<raises>(?:(?:should|must|will|would|has to)[^\S\n]+)?(?:raises?|throws?)(?:[^\S\n]+an?|[^\S\n]+the)?\b)"
    rf"|(?P<norm>(?:should|must|shall|ought to|needs? to|has to|(?:is )?(?:expected|supposed) to)[^\S\n]+{_TO_GIVE}\b"
    r"|(?:is )?expected(?:[^\S\n]+(?:output|result|value))?[^\S\n]*[:=])"
    r"|(?P<prints>(?:(?:will|would)[^\S\n]+)?(?:prints?|outputs?)\b(?:[^\S\n]*:)?)"
    rf"|(?P<verb>(?:(?:always|also|correctly)[^\S\n]+)?(?:(?:will|would)[^\S\n]+{_TO_GIVE}"
    r"|returns?|gives?|yields?|produces?|equals?|is equal to|evaluates? to"
    r"|results? in|becomes?|results?[^\S\n]*:|is)\b(?:[^\S\n]*:)?)"
    r"|(?P<past>(?:returned|gave|got|printed|was|\w+ly[^\S\n]+(?:returns?|gives?|yields?|prints?|is|equals?)|"
    r"(?:now|still|sometimes|often)[^\S\n]+\w+)\b)"
    r"|(?P<near>≈|≅|~=?|is (?:about|approximately|roughly)\b|approximately\b|about\b)"
    r"|(?P<symbol>={1,3}>|={1,3}|[-–—]{1,2}>|[→➔➙➛➜➝➞➟➠⇒⇨⟶⟹⟼↦])"
    r"|(?P<colon>:)|(?P<cell>\|)|(?P<bare>(?<=\#[^\S\n])|(?<=\#))"
    r")[^\S\n]*(?:(?:exactly|precisely"
    r"|(?:the|a) (?:number|integer|float|boolean|string|list|tuple|set|dict(?:ionary)?|value|result))"
    r"[^\S\n]*:?[^\S\n]*)?(?:(?P<about>≈|~|about|approximately|approx\.?|roughly)[^\S\n]*)?"
    r"(?P<opener>[`*]{0,3})",
    re.IGNORECASE,
)

# words about an existing program that is wrong
_BUG = re.compile(
    r"\b(?:bugs?|buggy|broken|debug(?:ging)?|currently|right now|at the moment|misbehav\w+|faulty|unexpected(?:ly)?"
    r"|fix (?:it|this|that|the|my|bugs?|me|up)|what(?:'s|’s| is) wrong|(?:is|are|be|it|goes|gives|got|get|gets"
    r"|returns|the|a) wrong|wrong(?:ly)? (?:results?|answers?|outputs?|values?|returns|gives)|incorrect(?:ly)?"
    r"|(?:doesn['’]?t|does not|not|isn['’]?t) work\w*|but (?:it |i |we )?(?:actually |currently |now )?(?:got|gets?"
    r"|gave|returns?|returned|gives?|prints?|is|was)|why (?:does|do|did|is|are)\b|why(?=\s*\?)"
    r"|my (?:code|program|implementation"
    r"|solution|function|attempt|version)|(?:this|these|the) (?:code|test|tests|assertion|assertions) fails?)\b",
    re.IGNORECASE,
)
_STRONG = re.compile(
    r"\b(?:wrong(?:ly)?|incorrect(?:ly)?|bugs?|buggy|broken|mistake\w*|erroneous(?:ly)?|instead|current(?:ly)?|actual(?:ly)?"
    r"|right now|at the moment|no longer|previously|used to|fails?|failing|misbehav\w+|counter-?examples?"
    r"|not (?:right|true|correct|ok|valid|allowed|expected|what|like)|unexpected(?:ly)?"
    r"|invalid examples?|never|why|fix (?:it|this|that)|bad)\b"
    r"|\bnot:|[❌✗✘✖🚫👎]",
    re.IGNORECASE,
)
_BEFORE = re.compile(
    r"\b(?:if|unless|when(?:ever)?|whether|until|while|elif|assum\w+|suppose\w*|given that|than|without"
    r"|(?:should|must|may|can|could|does|did|is|are|was|will|would|has)(?:n['’]t| not)|cannot|not|or"
    r"|(?:do not|don['’]t|never) (?:want|expect|let|allow|accept|return|have)|got|get|gets|gave)\b[^,;:.()]*$"
    r"|\breturns?[ \t`*\"']*$",
    re.IGNORECASE,
)
_AFTER = re.compile(
    r"\b(?:but|however|although|though|except|unless|otherwise|if|when|only|rather|or|not|nor|n['’]t|sometimes|usually"
    r"|maybe|perhaps|should (?:be|return|give|have|equal|yield|output|not)|shouldn['’]t|errors?|expected|expect|got|no"
    r"|raises?|fix|was|were|yet|doesn['’]t|isn['’]t|still)\b|[?≠]|!=",
    re.IGNORECASE,
)
_REMARK = re.compile(
    r"\b(?:but|however|should (?:be|return|give|have)|shouldn['’]t|errors?|expected|got|not|was|todo|\?{2,})\b|\?|!=|≠",
    re.IGNORECASE,
)
_TURN = re.compile(
    r"[\s\"'`*)\]]*(?:but|however|(?:it|that|this|which|they|these|those)\s+(?:(?:should|must|ought|isn|seems?|looks?|makes"
    r" no)\b|(?:is|are|was)\s+(?:not|wrong|incorrect|a bug|broken|no\b|unexpected|where|what i (?:get|got|see)))"
    r"|the (?:right|correct|expected|real)\b|i (?:expect|want)|expected|instead|fix|correct (?:it|this)|wrong|why|not\b"
    r"|no[,.! ]|should)",
    re.IGNORECASE,
)
_HEADING = re.compile(r"\bnot\b|n['’]t\b|\?$|\bactual\b|\bbefore\b", re.IGNORECASE)
_NO_HEADING = (">>>", "|--", "| --", "#", "python")
_ONWARDS = re.compile(
    r"[ \t]+(?:and|while|whereas|&|;)[ \t]+[`*(\"'“]*(?:that[ \t]+|for[ \t]+)?[`*]*[A-Za-z_]\w*\(", re.IGNORECASE
)
_REASON_WORDS = re.compile(r"(?:,?[ \t]+)(?:because|since|as|so|thus|hence|i\.e\.|namely)\b", re.IGNORECASE)
_APPROXIMATE = re.compile(r"\b(?:approx\w*|about|roughly|circa|round\w*|nearly|almost)\b|≈|~", re.IGNORECASE)
_QUOTED = re.compile(r"\"[^\"\n]*\"|(?<!\w)'[^'\n]*'|“[^”\n]*”")
_SENTENCE_END = re.compile(r"[.!?;](?=[\s)\"'`*\]]|$)")
_NEW_LINE = re.compile(r"\n[ \t]*(?=\n|[#>*+|`\"'\d(\[{A-Z\u2190-\U0001faff-]|[A-Za-z_]\w*\(|$)")
_CALL = re.compile(r"\b[A-Za-z_]\w*\(")
_FAR = 300


def docstring_spans(prompt: str) -> list[tuple[int, int]]:
    """Return the bounds of the docstrings in a prompt's code; they specify the code, whatever the prose says."""
    if re.search(r"\b(?:def|class)\s+\w+", prompt) is None:
        return []
    spans: list[tuple[int, int]] = []
    at = 0
    while True:
        starts = [found for quote in ('"""', "'''") if (found := prompt.find(quote, at)) >= 0]
        if not starts:
            return spans
        start = min(starts)
        end = prompt.find(prompt[start : start + 3], start + 3)
        if end < 0:
            # the prompt may end within a docstring when it is a signature to complete
            spans.append((start + 3, len(prompt)))
            return spans
        spans.append((start + 3, end))
        at = end + 3


def tells_of_a_bug(prose: str) -> bool:
    """Return whether prose speaks of an existing program that is wrong, so that what it "returns" may be the bug."""
    return _BUG.search(prose) is not None


def is_approximate(words: str) -> bool:
    """Return whether the words beside a number say that it is not exact."""
    return _APPROXIMATE.search(words) is not None


def doubt_before(text: str, start: int, end: int) -> str:
    """Return why the sentence or the heading before a call makes it uncertain; empty if neither does.

    Args:
        text: The prompt.
        start: Index at which the call begins.
        end: Index behind the value.
    """
    begin = max(0, start - _FAR)
    ends = [match.end() for match in _SENTENCE_END.finditer(text, begin, start)]
    lines = [match.end() for match in _NEW_LINE.finditer(text, begin, end) if match.end() <= start]
    sentence = _QUOTED.sub("''", text[max([begin, *ends, *lines]) : start])
    if found := _STRONG.search(sentence) or _BEFORE.search(sentence):
        return f"the words before it say {found[0].strip()[:40]!r}"
    heading = _heading(text, start)
    if found := _STRONG.search(heading) or _HEADING.search(heading):
        return f"the line above it says {found[0].strip()[:40]!r}"
    return ""


def _heading(text: str, start: int) -> str:
    """Return the line that introduces a list of examples, above a call that begins its line; empty if there is none."""
    line_start = text.rfind("\n", 0, start) + 1
    if text[line_start:start].strip(" \t-*+>#|`0123456789.)(") not in ("", "assert", "print("):
        return ""
    lines = text[max(0, line_start - 4 * _FAR) : line_start].splitlines()
    for line in reversed(lines[-30:]):
        stripped = line.strip().strip("`*_ ")
        if stripped and _CALL.search(stripped) is None and not stripped.startswith(_NO_HEADING):
            stripped = _SENTENCE_END.split(stripped.rstrip("?"))[-1] + stripped[len(stripped.rstrip("?")) :]
            return stripped if stripped.endswith((":", "?")) or stripped.startswith("|") else ""
    return ""


def doubt_after(  # noqa: PLR0911 - a list of rules
    text: str, end: int, *, normative: bool = False, asserted: bool = False, quote: str = ""
) -> tuple[str, str]:
    """Return why the text behind a value makes it uncertain that the value is complete and meant.

    Args:
        text: The prompt.
        end: Index behind the value.
        normative: Whether the prompt says "should return"; then "but returns 5" and "not 5" do not revoke the value.
        asserted: Whether the value is part of an assert statement, whose message follows a comma.
        quote: Mark that closes a quotation begun before the call, and which may follow the value.

    Returns:
        The doubt, empty if there is none, and the words in parentheses right behind the value.
    """
    at = end
    while text[at : at + 1] and text[at] in "`*" + quote:
        at += 1
    aside = re.compile(r"[ \t]+\(([^()\n]*)\)").match(text, at)
    if aside is not None:
        words = aside[1]
        reasoned = re.match(r"(?:because|since|as|i\.e\.|namely)\b", words, re.IGNORECASE) is not None
        doubtful = _STRONG.search(words) or _AFTER.search(_QUOTED.sub("''", words))
        if doubtful or (not reasoned and re.search(r"\d", words) and not is_approximate(words)):
            return f"the words behind it say ({words[:40]})", words
        at = aside.end()
    remark = aside[1] if aside else ""
    while text[at : at + 1] and text[at] in ")]`*":
        at += 1
    if text[at : at + 1] == "!" and text[end - 1].isdigit():
        return "an exclamation mark may be a factorial", ""
    rest = text[at : at + _FAR]
    stops = [m.start() for m in (_SENTENCE_END.search(rest), _NEW_LINE.search(rest)) if m]
    stop = min([len(rest), *stops])
    sentence, following = rest[:stop], rest[stop : stop + 1]
    if following == "?" or "?" in sentence:
        return "it is part of a question", remark
    if asserted and re.match(r"[ \t]*,[ \t]*[rbfuRBFU]*[\"']", sentence):
        return "", remark
    beginning = _beginning(rest, sentence, normative=normative)
    if beginning:
        return beginning, remark
    words = _QUOTED.sub("''", sentence)
    strong = re.compile(r"\b(?:but|wrong|incorrect)", re.IGNORECASE) if normative else _STRONG
    if found := strong.search(words):
        return f"the words behind it say {found[0]!r}", remark
    call = _CALL.search(words)
    own = words[: call.start()] if call else words
    soft = _REMARK if re.match(r"[ \t]*(?:#|//)", sentence) else _AFTER
    if not normative and (found := soft.search(own)):
        return f"the words behind it say {found[0]!r}", remark
    ahead = rest[stop + 1 :].split("\n\n")[0] if following in ".;!" else rest[stop:].split("\n\n")[0]
    if not normative and following and _TURN.match(ahead.lstrip("\n")) and not _CALL.match(ahead.strip()):
        return f"the next sentence says {ahead.strip()[:40]!r}", remark
    return "", remark


def _beginning(rest: str, sentence: str, *, normative: bool) -> str:  # noqa: PLR0911 - a list of rules
    """Return why the text directly behind a value makes it uncertain where the value ends; empty if it is certain."""
    stripped = sentence.strip()
    if not stripped or sentence[0] == "\n":
        lower = re.match(r"[ \t]*,?[ \t]*\n[ \t]*(?=[\d\"'\[({])", rest)
        return "the next line goes on with a value" if lower and "," in lower[0] else ""
    if re.match(r"[ \t]*(?:#|//|—|\||</?\w|[✓✔✅])", sentence):
        return ""
    if re.match(r"[ \t]*:(?:\s|$)", sentence) or _REASON_WORDS.match(sentence):
        return ""
    if normative and re.match(r",?[ \t]+(?:instead of|not|rather than|and not)\b", sentence, re.IGNORECASE):
        return ""
    comma = re.match(r",[ \t]*", sentence)
    if comma is not None:
        after = rest[comma.end() :]
        if re.match(r"\d{3}(?!\d)", sentence[1:]):
            return "a comma between digits may separate thousands"
        if re.match(r"\s*(?:[\d\"'“‘\[({+\-−.]|(?:True|False|None|true|false|null)\b)", after):
            return "a comma and another value follow"
        return ""
    if _ONWARDS.match(sentence):
        return ""
    return f"{stripped[:40]!r} follows the value"
