"""Small bodies and tokenizers, and rows that a small student learns in a second."""

from __future__ import annotations

import random
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import CONFIG_MAPPING, AutoModel

from s3local.records import SPAN, Answer, Example
from s3local.student.agreement import ExportReport
from s3local.student.reader_training import ReaderSettings
from s3local.student.training import TrainingSettings

WORDS = ["good", "great", "fine", "bad", "awful", "poor", "film", "book", "song", "was", "the", "very", "quite"]
SETTINGS = TrainingSettings(learning_rate=4e-3, passes=480, batch_size=16, max_length=32)
LABELS = ("negative", "positive")


@dataclass(frozen=True)
class Exported:
    """An exported student and the report of its export."""

    folder: Path
    report: ExportReport


BERT_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROBERTA_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def tiny_tokenizer(special: tuple[str, ...] = BERT_TOKENS) -> Any:
    """Word pieces of ``WORDS`` and of letters; ``special`` are the first ids, as BERT or as RoBERTa has them."""
    letters = string.ascii_lowercase + string.digits + string.punctuation
    tokens = [*special, *letters, *(f"##{letter}" for letter in letters), *WORDS]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    unknown, begin, end = ("[UNK]", "[CLS]", "[SEP]") if special == BERT_TOKENS else ("<unk>", "<s>", "</s>")
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token=unknown))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    between = end if special == BERT_TOKENS else f"{end} {end}"
    tokenizer.post_processor = TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {between} $B:1 {end}:1",
        special_tokens=[(token, vocabulary[token]) for token in (begin, end)],
    )
    tokenizer.add_special_tokens(list(special))
    return tokenizer


CONFIGS: dict[str, dict[str, Any]] = {
    "bert": {"layer_norm_eps": 1e-5},  # with 1e-12 it would become a DistilBERT
    "deberta-v2": {
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 8,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "position_biased_input": False,
        "type_vocab_size": 0,
    },
    "distilbert": {},
    "modernbert": {"global_attn_every_n_layers": 2, "local_attention": 6},
    "mpnet": {"layer_norm_eps": 1e-5},
    "roberta": {},
    "xlm-roberta": {},
}
"""Settings of small bodies, by model type, that need all of what their type can do."""


def write_body(folder: Path, model_type: str, seed: int = 7, **changes: Any) -> None:
    """A body of random weights, large enough that every part of it shows in its output."""
    as_roberta = model_type in ("mpnet", "roberta", "xlm-roberta")
    tokenizer = tiny_tokenizer(ROBERTA_TOKENS if as_roberta else BERT_TOKENS)
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2} if as_roberta else {"pad_token_id": 0}
    sizes = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 66 if as_roberta else 64,
        "initializer_range": 0.2,
    }
    if model_type == "distilbert":
        sizes = {**sizes, "hidden_dim": sizes.pop("intermediate_size")}
    config = CONFIG_MAPPING[model_type](**{**sizes, **ids, **CONFIGS[model_type], **changes})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))


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

READER_SETTINGS = ReaderSettings(learning_rate=3e-3, epochs=12, batch_size=16, max_length=32)
MOODS = ("good", "great", "fine", "bad", "awful", "poor")
THINGS = ("film", "book", "song")


def questions(count: int, seed: int, long: bool = False) -> list[Example]:
    """A context says of three things what they were; the question names one of them."""
    generator = random.Random(seed)
    rows = []
    for number in range(count):
        things = generator.sample(THINGS, 3)
        moods = {thing: generator.choice(MOODS) for thing in things}
        filler = " very very very very very very very very" if long else ""
        context = ". ".join(f"the {thing} was{filler} {mood}" for thing, mood in moods.items())
        thing = generator.choice(things)
        start = context.index(moods[thing], context.index(f"the {thing}"))
        answer = Answer(moods[thing], start)
        rows.append(Example(f"q{number}", {"context": context, "question": f"the {thing}?"}, SPAN, (answer,)))
    return rows
