"""The training losses, as pure functions of score tensors. Scores are float32 and already scaled."""

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus


def scores(queries: Tensor, documents: Tensor, scale: float) -> Tensor:  # [B, D], [C, D] -> [B, C]
    """Scaled inner products, in float32 regardless of autocast."""
    with torch.autocast(queries.device.type, enabled=False):
        return scale * (queries.float() @ documents.float().T)


def ranknet(positive: Tensor, candidates: Tensor, keep: Tensor) -> Tensor:  # [B], [B, C], bool [B, C] -> []
    """Mean over the kept pairs of softplus(s_n - s_p): STAR's default form.

    Each query is paired with every kept candidate: positives of other queries and hard negatives of the whole batch,
    without documents that are relevant to it. The mean is over all pairs of the batch, as in the authors' code (Zhan et
    al. 2021, Eq. 3 and 13).
    """
    pairs = softplus(candidates - positive.unsqueeze(1))
    return (pairs * keep).sum() / keep.sum().clamp(min=1)


def star_weighted(
    positive: Tensor, candidates: Tensor, own: Tensor, others: Tensor, alpha: float
) -> Tensor:  # [B], [B, C], bool [B, C] twice -> []
    """L_s + alpha * L_r (Zhan et al. 2021, Eq. 13).

    L_s has the hard negatives of each query, L_r all documents of the other rows. Each part is a mean over its pairs.
    """
    return ranknet(positive, candidates, own) + alpha * ranknet(positive, candidates, others)


def contrastive(positive: Tensor, candidates: Tensor, keep: Tensor) -> Tensor:  # [B], [B, C], bool [B, C] -> []
    """Mean cross-entropy of each query's positive among itself and the kept candidates.

    This is the loss of DPR (Karpukhin et al. 2020, Eq. 2).
    """
    among = torch.cat([positive.unsqueeze(1), candidates.masked_fill(~keep, float("-inf"))], dim=1)
    return (among.logsumexp(dim=1) - positive).mean()


def lambda_weights(
    metric: str, cut: int, ranks: Tensor, relevant: Tensor, gains: Tensor, ideal: float
) -> Tensor:  # [R], bool [R], [R] -> [P, N]
    """Weights of the pairs (relevant i, other j) of one query's list for ADORE (Zhan et al. 2021).

    `ranks` are from 1. `rr` is |g(r_i) - g(r_j)| with g(r) = 1/r up to the cut, else 0, as in the authors' code. `mrr`
    and `ndcg` are the change of the measure if i and j swap their places (Eq. 15), where `gains` are grades of relevant
    documents, else 0, and `ideal` is the best DCG at the cut. `none` is 1.
    """
    first, second = ranks[relevant].unsqueeze(1), ranks[~relevant].unsqueeze(0)
    if metric == "none":
        return torch.ones(first.shape[0], second.shape[1], device=ranks.device)
    if metric == "ndcg":

        def discount(rank: Tensor) -> Tensor:
            return (rank <= cut) / torch.log2(rank + 1.0)

        return gains[relevant].unsqueeze(1) * (discount(first) - discount(second)).abs() / ideal

    def worth(rank: Tensor) -> Tensor:
        return (rank <= cut) / rank.float()

    if metric == "rr":
        return (worth(first) - worth(second)).abs()
    order = ranks[relevant].sort().values
    best = order[0]
    runner_up = order[1] if len(order) > 1 else torch.iinfo(ranks.dtype).max // 2
    others = torch.where(first == best, runner_up, best)  # the best relevant rank without i
    return (worth(torch.minimum(others, second)) - worth(best)).abs()


def adore(scores: Tensor, relevant: Tensor, weights: Tensor) -> Tensor:  # [R], bool [R], [P, N] -> []
    """Mean over one query's pairs of softplus(s_j - s_i) * weight. Pairs of weight 0 count, as in the authors' code."""
    return (softplus(scores[~relevant].unsqueeze(0) - scores[relevant].unsqueeze(1)) * weights).mean()


def token_losses(logits: Tensor, labels: Tensor) -> Tensor:  # [M, V], [M] -> [M]
    """Cross-entropy of each masked token in the vocabulary (BERT, Devlin et al. 2019, 3.1).

    It is computed in float32 regardless of autocast.
    """
    with torch.autocast(logits.device.type, enabled=False):
        return cross_entropy(logits.float(), labels, reduction="none")


def masked_language(sums: Tensor, counts: Tensor) -> Tensor:  # [N], [N] -> []
    """Mean over all masked tokens of a batch, from the summed losses and numbers of masked tokens of texts."""
    return sums.sum() / counts.sum().clamp(min=1)


def margin_mse(margins: Tensor, teacher: Tensor) -> Tensor:  # [P], [P] -> []
    """Mean over pairs of ((s_p - s_n) - (t_p - t_n))^2 (Hofstaetter et al. 2020, Eq. 5).

    The arguments are the differences. It is 0 without pairs.
    """
    return (margins - teacher).square().sum() / max(1, len(margins))


def relative_error(vectors: Tensor, targets: Tensor) -> Tensor:  # [N, D], [N, D] -> []
    """Squared distance of vectors to their targets, divided by the squared length of the targets.

    It is 0 for equal vectors and 1 for vectors of zeros. [ours]
    """
    return (vectors - targets).square().sum() / targets.square().sum().clamp(min=torch.finfo(targets.dtype).tiny)


def pointwise(positive: Tensor, candidates: Tensor, keep: Tensor) -> Tensor:  # [B], [B, C], bool [B, C] -> []
    """Mean binary cross-entropy of positives as relevant and kept candidates as not relevant (Nogueira and Cho 2019).

    The mean is over all pairs [ours].
    """
    wrong = (softplus(candidates) * keep).sum() + softplus(-positive).sum()
    return wrong / (keep.sum() + len(positive))


def contrastive_of_lists(scores: Tensor, listed: Tensor) -> Tensor:  # [B, K], bool [B, K] -> [B]
    """Cross-entropy of each list's first item, the positive, among the listed items."""
    return scores.masked_fill(~listed, float("-inf")).logsumexp(dim=1) - scores[:, 0]


def kl_of_lists(
    teacher: Tensor, student: Tensor, listed: Tensor, reverse: bool = False
) -> Tensor:  # [B, K], [B, K], bool [B, K] -> [B]
    """KL(teacher || student) of the softmax over each list's items; `reverse`: KL(student || teacher).

    Only listed items count. A list with at most one item has loss 0 (Tao et al., ADAM, Eq. 9).
    """
    gone = torch.finfo(torch.float32).min  # not -inf, which would give nan for an empty list
    first, second = (
        torch.log_softmax(scores.float().masked_fill(~listed, gone), dim=1)
        for scores in ((student, teacher) if reverse else (teacher, student))
    )
    return torch.where(listed, first.exp() * (first - second), 0.0).sum(dim=1)


def confidence(teacher: Tensor, listed: Tensor) -> Tensor:  # [B, 1 + m], bool [B, 1 + m] -> [B]
    """Log of the teacher's softmax at the positive against the original negatives (Tao et al., ADAM).

    The positive is the first item. A query without negatives gets -inf, so that it never displaces another query.
    """
    return (-contrastive_of_lists(teacher.float(), listed)).masked_fill(listed.sum(dim=1) < 2, -math.inf)


def most_confident(confidences: Tensor, share: float) -> Tensor:  # [B] -> bool [B]
    """Return which queries are distilled: the ceil(share * B) most confident ones. Ties go to the first."""
    count = math.ceil(round(share * len(confidences), 9))  # 9 digits, since 1/2 of 10 in floats may be above 5
    kept = torch.zeros(len(confidences), dtype=torch.bool, device=confidences.device)
    kept[torch.sort(confidences, descending=True, stable=True).indices[:count]] = True
    return kept


def adam(
    supervised: Tensor, divergence: Tensor, kept: Tensor, weight: float, reduction: str = "mean"
) -> Tensor:  # [B], [B], bool [B] -> []
    """Weight * L_sup + L_kd of a batch's cross-entropies and divergences (Tao et al., ADAM, Eq. 9 and 10).

    With `mean`, cross-entropies are averaged over the batch, and divergences over the kept queries. With `sum`, both
    are summed, as in the paper.
    """
    distilled = (divergence * kept).sum()
    if reduction == "sum":
        return weight * supervised.sum() + distilled
    return weight * supervised.mean() + distilled / kept.sum().clamp(min=1)


def highest(
    scores: Tensor, allowed: Tensor, count: int
) -> tuple[Tensor, Tensor]:  # [B, C], bool [B, C] -> int [B, M], bool [B, M]
    """Return the places of each row's M = min(count, C) highest allowed scores, and which of these are allowed."""
    found = scores.masked_fill(~allowed, float("-inf")).topk(min(count, scores.shape[1]), dim=1)
    return found.indices, allowed.gather(1, found.indices)


def fine_grained(
    teacher: tuple[Tensor, Tensor], student: tuple[Tensor, Tensor], pieces: Tensor, kept: Tensor, reverse: bool = False
) -> Tensor:
    """Mean over queries of 1/K sum_k of KL over {k-th piece of the positive} + negative pieces (Zhou et al., FGD).

    `teacher` and `student` each hold scores of the positive's pieces [B, P] and of the negative ones [B, M]; `pieces`
    bool [B, P] is true for existing pieces of the positive (K of them), `kept` bool [B, M] for existing negative
    pieces. A query without a piece has loss 0.
    """
    count = pieces.shape[1]
    theirs, ours, listed = (
        torch.cat([own.unsqueeze(2), others.unsqueeze(1).expand(-1, count, -1)], dim=2).flatten(0, 1)
        for own, others in (teacher, student, (pieces, kept))
    )
    divergences = kl_of_lists(theirs, ours, listed, reverse).view_as(pieces)
    return ((divergences * pieces).sum(dim=1) / pieces.sum(dim=1).clamp(min=1)).mean()
