"""Every training loss, once, as a pure function of score tensors. Scores are float32 and already scaled."""

import torch
from torch import Tensor
from torch.nn.functional import softplus


def scores(queries: Tensor, documents: Tensor, scale: float) -> Tensor:  # [B, D], [C, D] -> [B, C]
    """Scaled inner products, in float32 whatever the autocast."""
    with torch.autocast(queries.device.type, enabled=False):
        return scale * (queries.float() @ documents.float().T)


def ranknet(positive: Tensor, candidates: Tensor, keep: Tensor) -> Tensor:  # [B], [B, C], bool [B, C] -> []
    """Mean over the kept pairs of softplus(s_n - s_p): STAR's default form.

    Every query stands against every candidate that `keep` leaves it: other queries' positives and the whole batch's hard
    negatives, without what is relevant to it. (Zhan et al. 2021, Eq. 3 and 13; one count of pairs for the batch, as their
    program has it.)
    """
    pairs = softplus(candidates - positive.unsqueeze(1))
    return (pairs * keep).sum() / keep.sum().clamp(min=1)


def star_weighted(positive: Tensor, candidates: Tensor, own: Tensor, others: Tensor, alpha: float) -> Tensor:  # [B], [B, C], bool [B, C] twice -> []
    """L_s + alpha * L_r (Zhan et al. 2021, Eq. 13): each query's own hard negatives, and every document of the other rows.

    Each part is a mean over its pairs.
    """
    return ranknet(positive, candidates, own) + alpha * ranknet(positive, candidates, others)


def contrastive(positive: Tensor, candidates: Tensor, keep: Tensor) -> Tensor:  # [B], [B, C], bool [B, C] -> []
    """Mean cross-entropy of each query's positive among itself and the kept candidates (DPR, Karpukhin et al. 2020, Eq. 2)."""
    among = torch.cat([positive.unsqueeze(1), candidates.masked_fill(~keep, float("-inf"))], dim=1)
    return (among.logsumexp(dim=1) - positive).mean()
