"""Small tokenizers like those of the text encoders in use: CLIP's, T5's and BERT's."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from runtime.prompts.tokenizer_checks import WORD_PATTERNS

WORDS = ("red", "blue", "sea", "storm", "café")
BEGIN, END, SUFFIX = "<|startoftext|>", "<|endoftext|>", "</w>"


def clip_parts(words: Sequence[str] = WORDS) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return the vocabulary and the merges of a tokenizer like CLIP's, in which each of the words is one token."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*letters, *(letter + SUFFIX for letter in letters)]
    merges: list[tuple[str, str]] = []
    for word in words:
        (pieces, _), *_ = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(word)
        made = pieces[0]
        for place, letter in enumerate(pieces[1:], start=1):
            pair = (made, letter + (SUFFIX if place == len(pieces) - 1 else ""))
            made = "".join(pair)
            if pair not in merges:
                merges.append(pair)
                names.append(made)
    return {name: number for number, name in enumerate([*names, BEGIN, END])}, merges


def clip_tokenizer(words: Sequence[str] = WORDS) -> str:
    """Return a tokenizer.json as the authors of CLIP's converters wrote it."""
    vocabulary, merges = clip_parts(words)
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token=END, continuing_subword_prefix="", end_of_word_suffix=SUFFIX)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words_of = pre_tokenizers.Split(Regex(WORD_PATTERNS[0]), "removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words_of, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    ends = [(name, vocabulary[name]) for name in (END, BEGIN)]
    tokenizer.post_processor = processors.RobertaProcessing(*ends, trim_offsets=False, add_prefix_space=False)
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in (BEGIN, END)])
    return str(tokenizer.to_str())


def t5_tokenizer(words: Sequence[str] = WORDS) -> str:
    """Return a tokenizer.json like T5's: <pad> 0, </s> 1, <unk> 2, then words and letters."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    vocabulary += [(f"▁{word}", -4.0) for word in words] + [(letter, -9.0) for letter in letters]
    tokenizer = Tokenizer(models.Unigram(vocabulary, 2, False))
    space = pre_tokenizers.Metaspace("▁", "always", split=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), space])
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in ("<pad>", "</s>", "<unk>")])
    return str(tokenizer.to_str())


def bert_tokenizer(words: Sequence[str] = WORDS) -> str:
    """Return a tokenizer.json like BERT's: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, then words."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words, "##s"]
    tokenizer = Tokenizer(models.WordPiece({name: place for place, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return str(tokenizer.to_str())


def changed(tokenizer: str, **parts: object) -> str:
    """Return a tokenizer.json with other parts."""
    return json.dumps(json.loads(tokenizer) | parts)
