"""A tokenizer that treats spaces as SentencePiece does."""

from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast


def sentencepiece_tokenizer():
    """Decodes as Llama 2, Code Llama and Mistral do: the first space of a text is left out."""
    words = ["<s>", "</s>", "<unk>", *(chr(i) for i in range(33, 127)), "▁", "▁STOP", "▁▁▁▁", "▁return", "\n", "é"]
    core = Tokenizer(models.Unigram([(word, -(len(word) ** -1.0)) for word in words], unk_id=2))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
