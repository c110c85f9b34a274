"""What many tests share: a body that trains in a second, rows that it can learn, and its tokenizer."""

from __future__ import annotations

import string
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from s3local.records import Example
from s3local.student.training import TrainingSettings

WORDS = ["good", "great", "fine", "bad", "awful", "poor", "film", "book", "song", "was", "the", "very", "quite"]
SETTINGS = TrainingSettings(learning_rate=2e-3, epochs=20, batch_size=8, max_length=32, contrast_passes=0)
LABELS = ("negative", "positive")


def tiny_tokenizer() -> Any:
    letters = string.ascii_lowercase + string.digits + string.punctuation
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters), *WORDS]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    return tokenizer


def reviews() -> list[Example]:
    """48 rows whose label is the word in the last place."""
    moods = {"positive": ["good", "great", "fine"], "negative": ["bad", "awful", "poor"]}
    texts = [
        (f"{article} {thing} was{more} {mood}", label)
        for label, words in moods.items()
        for mood in words
        for article in ("a", "the")
        for thing in ("film", "song")
        for more in ("", " very")
    ]
    return [Example(f"r{number}", {"text": text}, label) for number, (text, label) in enumerate(texts)]


UNSEEN = [
    Example(f"u{number}", {"text": f"the book was quite {mood}"}, label)
    for number, (mood, label) in enumerate(
        [("good", "positive"), ("bad", "negative"), ("awful", "negative"), ("fine", "positive"), ("poor", "negative")]
    )
]
