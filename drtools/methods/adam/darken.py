"""From an example to the same with dark items (Tao et al., ADAM, 3.1).

What is drawn depends on the seed and the query alone.
"""

from collections.abc import Sequence
from dataclasses import replace

from drtools.formats.dark_items import Dark, Noisy, Reinforced
from drtools.formats.examples import Example
from drtools.randomness import generator


def with_dark_items(example: Example, negatives: int, ratios: Sequence[float], reinforced: bool, seed: int) -> Example:
    """Return an example of at most `negatives` drawn negatives (0.

    All as they are) with its dark items, all of one positive.

    Reinforced negatives stand in the order of the negatives, then noisy positives in that of the ratios. Scores of the
    negatives stay with them; dark items that were there, their scores and texts, go.
    """
    random = generator(seed, "dark", example.query_id)
    order = (
        range(len(example.negatives))
        if not negatives
        else random.permutation(len(example.negatives))[:negatives].tolist()
    )
    items: list[Dark] = []
    if example.positives:
        positive = example.positives[int(random.integers(len(example.positives)))]
        items += [Reinforced(positive, example.negatives[at]) for at in order] if reinforced else []
        items += [Noisy(positive, ratio, seed) for ratio in ratios]
    scores = example.negative_scores
    return replace(
        example,
        negatives=[example.negatives[at] for at in order],
        negative_scores=None if scores is None else [scores[at] for at in order],
        dark=items,
        dark_scores=None,
        others={key: value for key, value in example.others.items() if key != "dark_texts"},
    )
