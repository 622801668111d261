"""A fast word-level tokenizer for encoders over static word vectors."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, normalizers
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast


SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[SEP]")

# English as GloVe was tokenized: contractions split before n't, 's, 'll …; numbers and the Penn Treebank's quotes and
# dashes whole; every other punctuation mark by itself. "don't" reads "do n't" whether it comes raw or split already.
_WORD = r"n't\b|\w+?(?=n't\b)|'(?:s|m|d|re|ve|ll)\b|\d+(?:[.,]\d+)*|\w+|\.{2,}|-{2,}|``|''|[^\w\s\x1c-\x1f]"


def word_level_tokenizer(words: Iterable[str]) -> PreTrainedTokenizerFast:
    r"""
    A tokenizer over the given lower-case words; it saves, loads with `AutoTokenizer`, and gives exact character
    offsets. Text is lower-cased; words outside the vocabulary become `[UNK]`; pairs are `first [SEP] second`.

    Args:
        words: the vocabulary, most useful words first; doublets are dropped. Word i of the distinct words has the
            index `i + 3`, after `[PAD]`, `[UNK]` and `[SEP]`.

    Raises:
        ValueError: if there are no words.
    """
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys([*SPECIAL_TOKENS, *words]))}
    if len(vocabulary) == len(SPECIAL_TOKENS):
        raise ValueError("A tokenizer needs at least one word; the vocabulary is empty.")
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = Split(Regex(_WORD), behavior="removed", invert=True)
    tokenizer.post_processor = TemplateProcessing(
        single="$A", pair="$A:0 [SEP]:0 $B:1", special_tokens=[("[SEP]", vocabulary["[SEP]"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "attention_mask"],
    )
