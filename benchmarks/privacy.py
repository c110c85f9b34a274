"""How well personal data is recognised: hand-made sentences, and what is found in real rows of public datasets.

    python benchmarks/privacy.py --json benchmarks/results/privacy.json --sample 40

The sentences of tests/worlds/personal_sentences.txt are marked by hand, so recall and precision are exact. Rows of trec
and ag_news are not, and most finds there are real names: --sample prints some finds of each dataset, to be read.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "tests" / "worlds")]

from marked_sentences import score  # noqa: E402
from shared import DATASETS  # noqa: E402

from s3local.curation.privacy import find_personal_data  # noqa: E402
from s3local.records import read_jsonl  # noqa: E402

ROWS = 3000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", type=Path, default=DATASETS)
    parser.add_argument("--sample", type=int, default=0, help="finds of each dataset to print (0)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    found: dict[str, object] = {"sentences": score()}
    for name in ("trec", "ag_news"):
        texts = [str(row["text"]) for _, row in read_jsonl(options.datasets / name / "pool.jsonl")]
        texts = chance.sample(texts, min(ROWS, len(texts)))
        finds = [find_personal_data(text) for text in texts]
        kinds = Counter(its.kind for row in finds for its in row)
        found[name] = {"rows": len(texts), "rows_with_a_find": sum(map(bool, finds)), "finds": dict(kinds)}
        values = [f"{its.kind}: {its.value}" for row in finds for its in row]
        for line in chance.sample(values, min(options.sample, len(values))):
            print(f"{name}  {line}")
    print(json.dumps(found, indent=2))
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
