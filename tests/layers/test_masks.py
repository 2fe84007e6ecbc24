"""Who sees whom, against the definitions written as loops."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from germinal.layers.attention import attend
from germinal.layers.masks import Masking, cross_mask, places_in_documents

LENGTH = 7
FLAGS = st.lists(st.booleans(), min_size=LENGTH, max_size=LENGTH)
NUMBERS = st.lists(st.integers(0, 2), min_size=LENGTH, max_size=LENGTH)


def sees(query: int, key: int, facts: dict[str, Any]) -> bool:
    """One row's mask, by the definition."""
    if query == key:
        return True
    documents, prefix, real = facts["documents"], facts["prefix"], facts["real"]
    if documents[query] != documents[key] or not real[key]:
        return False
    if facts["causal"] and key > query and not (prefix[query] and prefix[key]):
        return False
    between = documents[min(query, key) : max(query, key)].count(documents[key])
    return facts["window"] is None or between < facts["window"]


@given(
    causal=st.booleans(),
    window=st.none() | st.integers(1, LENGTH + 1),
    prefix=st.none() | FLAGS,
    documents=st.none() | NUMBERS,
    real=st.none() | FLAGS,
)
def test_every_mask_by_its_definition(causal: bool, window: int | None, **given: list[Any] | None) -> None:
    masking = Masking.of(
        causal=causal,
        attention_mask=None if given["real"] is None else torch.tensor([given["real"]]).long(),
        prefix_mask=None if given["prefix"] is None else torch.tensor([given["prefix"]]),
        document_ids=None if given["documents"] is None else torch.tensor([given["documents"]]),
    )
    visible = masking.visible(LENGTH, window, torch.device("cpu"))
    facts = {
        "causal": causal,
        "window": window,
        "documents": given["documents"] or [0] * LENGTH,
        "prefix": given["prefix"] or [False] * LENGTH,
        "real": given["real"] or [True] * LENGTH,
    }
    expected = torch.tensor([[sees(query, key, facts) for key in range(LENGTH)] for query in range(LENGTH)])
    if visible is None:
        whole = torch.ones(LENGTH, LENGTH, dtype=torch.bool)
        visible = (whole.tril() if causal else whole)[None, None]
    assert torch.equal(visible[0, 0], expected)


@pytest.mark.parametrize("causal", [True, False])
def test_no_mask_is_made_where_none_is_needed(causal: bool) -> None:
    nothing = Masking.of(
        causal=causal,
        attention_mask=torch.ones(2, 5),
        prefix_mask=torch.zeros(2, 5),
        document_ids=torch.tensor([[3] * 5, [4] * 5]),
    )
    assert nothing == Masking(causal)
    assert nothing.visible(5, None, torch.device("cpu")) is None
    assert nothing.visible(5, 5, torch.device("cpu")) is None
    assert nothing.visible(5, 4, torch.device("cpu")) is not None
    assert cross_mask(None) is None


def test_places_count_within_documents() -> None:
    ids = torch.tensor([[7, 7, 5, 7, 5, 5], [0, 0, 0, 0, 0, 0]])
    assert places_in_documents(ids).tolist() == [[0, 1, 0, 2, 1, 2], [0, 1, 2, 3, 4, 5]]
    mask = torch.tensor([[1, 0, 1, 1, 0, 1], [0, 0, 1, 1, 1, 0]])
    assert places_in_documents(ids, mask).tolist() == [[0, 0, 0, 1, 0, 1], [0, 0, 0, 1, 2, 0]]


def heads(generator: torch.Generator) -> list[Tensor]:
    return [torch.randn(1, count, 4, 8, generator=generator).requires_grad_() for count in (4, 2, 2)]


def test_who_sees_nothing_of_the_memory_takes_nothing_from_it() -> None:
    """A target whose document has no source: zeros and no gradient, never 0 / 0; captured weights say the same."""
    mask = cross_mask(None, torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 0, 0, 2]]))
    inputs = heads(torch.Generator().manual_seed(0))
    fused, captured = attend(*inputs, scale=0.3, mask=mask), list[Tensor]()
    torch.testing.assert_close(attend(*inputs, scale=0.3, mask=mask, capture=captured), fused)
    assert fused[:, :, 2:].abs().max() == 0
    assert captured[0][:, :, 2:].abs().max() == 0
    torch.testing.assert_close(captured[0][:, :, :2].sum(-1), torch.ones(1, 4, 2))
    for gradient in torch.autograd.grad(fused.square().sum(), inputs):
        assert torch.isfinite(gradient).all()
