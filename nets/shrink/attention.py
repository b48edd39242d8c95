"""Self-attention with fewer heads than its width would give, and what is left where no head is."""

from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perspective.errors import InputError


@final
class Attention(nn.Module):
    """nn.MultiheadAttention (batch first, one tensor for query, key and value, no masks) with `heads` heads of `head_dim`.

    (batch, positions, embed_dim) -> ((batch, positions, embed_dim), None). Head h takes its query, key and value from rows
    h head_dim ... (h + 1) head_dim of the three thirds of `in_proj_weight` (3 heads head_dim, embed_dim), as there; the
    parameters have the names that they have there. In training, `dropout` is applied to the attention weights.
    """

    def __init__(self, embed_dim: int, heads: int, head_dim: int, dropout: float = 0.0, bias: bool = True) -> None:
        super().__init__()
        if min(embed_dim, heads, head_dim) < 1:
            raise InputError("an attention module needs at least one head and one number in it")
        self.embed_dim, self.heads, self.head_dim, self.dropout = embed_dim, heads, head_dim, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * heads * head_dim, embed_dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * heads * head_dim)) if bias else None
        self.out_proj = nn.Linear(heads * head_dim, embed_dim, bias)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False, **masks: Any
    ) -> tuple[Tensor, None]:
        """`need_weights` is accepted and the weights are never given; InputError for a mask or a second tensor."""
        if (
            query is not key
            or key is not value
            or any(masks.get(name) is not None for name in ("attn_mask", "key_padding_mask"))
        ):
            raise InputError(
                "attention with removed heads takes one tensor and no mask; prune it as self-attention only"
            )
        batch, positions, _ = query.shape
        projected = F.linear(query, self.in_proj_weight, self.in_proj_bias)
        q, k, v = projected.view(batch, positions, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        return self.out_proj(mixed.transpose(1, 2).reshape(batch, positions, self.heads * self.head_dim)), None

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, heads={self.heads}, head_dim={self.head_dim}, dropout={self.dropout}"


@final
class ConstantAttention(nn.Module):
    """Stands for self-attention of which no head is left: the same numbers `values` (embed_dim,) at every position."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.register_buffer("values", torch.zeros(embed_dim))

    def forward(self, query: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
        return torch.zeros_like(query) + self.values.to(query.dtype), None

    def extra_repr(self) -> str:
        return f"{self.embed_dim}"
