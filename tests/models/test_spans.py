"""Span vectors against the model's own, and against its last layer run again for each span with a mask."""

import pytest
import torch

from drtools.errors import InputError
from drtools.methods.fgd.graph import Rgat, SpanStudent, edges
from drtools.models.cpu.attention import use_sliced_attention
from drtools.models.cpu.dropout import seeded, use_own_dropout
from drtools.models.loader import load_encoder
from drtools.models.spans import Spans

PASSAGES, SENTENCES = 3, 4
LENGTHS = (21, 9, 5)
SPANS = [  # the whole, three passages, four sentences; (0, 0): not there
    [(0, 21), (1, 8), (8, 15), (15, 20), (1, 5), (5, 9), (9, 13), (13, 20)],
    [(0, 9), (1, 8), (0, 0), (0, 0), (1, 4), (4, 8), (0, 0), (0, 0)],
    [(0, 5), (1, 4), (0, 0), (0, 0), (1, 4), (0, 0), (0, 0), (0, 0)],
]


def inputs():
    torch.manual_seed(3)
    ids = torch.randint(5, 40, (len(LENGTHS), max(LENGTHS)))
    mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()
    return ids * mask, mask, torch.tensor(SPANS)


def there():
    return [(text, at, span) for text, spans in enumerate(SPANS) for at, span in enumerate(spans) if span[1]]


def encoder_of(folder, sliced=False, pooling="cls"):
    encoder = load_encoder(folder, pooling=pooling, dropout=0.0)
    if sliced:
        use_own_dropout(encoder.body)
        assert use_sliced_attention(encoder.body)
    return encoder


def by_running_the_last_layer_again(body, ids, mask, text, span):
    """One text, one span.

    The states before the last layer by transformers, then its last layer under an explicit mask.
    """
    body.set_attn_implementation("eager")
    length = int(mask[text].sum())
    before = body(input_ids=ids[text : text + 1, :length], output_hidden_states=True).hidden_states[-2]
    allowed = torch.full((1, 1, length, length), float("-inf"))
    allowed[..., span[0] : span[1]] = 0
    return body.encoder.layer[-1](before, allowed)[0, 0]


@pytest.mark.parametrize("sliced", [False, True], ids=["sdpa", "sliced"])
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_the_span_of_every_token_is_the_models_own_vector(families, family, sliced):
    encoder = encoder_of(families[family], sliced)
    ids, mask, spans = inputs()
    rows = Spans(encoder, PASSAGES, SENTENCES)(ids, mask, spans).unflatten(1, (8, -1))
    torch.testing.assert_close(rows[:, 0], encoder(ids, mask), atol=1e-5, rtol=0)
    assert (rows[:, 1] - rows[:, 0]).abs().max() > 1e-3, "a part is not the whole"


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_spans_and_gradients_equal_the_last_layer_run_for_each(families, family):
    torch.manual_seed(1)
    weights = torch.randn(3, 8, 32)
    ids, mask, spans = inputs()
    found = {}
    for way in ("ours", "reference"):
        encoder = encoder_of(families[family]).train()
        if way == "ours":
            rows = Spans(encoder, PASSAGES, SENTENCES)(ids, mask, spans).unflatten(1, (8, -1))
            vectors = [rows[text, at] for text, at, _ in there()]
        else:
            vectors = [
                by_running_the_last_layer_again(encoder.body, ids, mask, text, span) for text, at, span in there()
            ]
        sum(
            (vector * weights[text, at]).sum() for vector, (text, at, _) in zip(vectors, there(), strict=True)
        ).backward()
        found[way] = (
            torch.stack(vectors).detach(),
            {name: value.grad for name, value in encoder.named_parameters() if value.grad is not None},
        )
    torch.testing.assert_close(found["ours"][0], found["reference"][0], atol=1e-5, rtol=0)
    assert found["ours"][1].keys() == found["reference"][1].keys()
    for name, gradient in found["ours"][1].items():
        torch.testing.assert_close(
            gradient, found["reference"][1][name], atol=1e-4, rtol=1e-4
        )  # sums of 15 gradients of up to 50


def test_dropout_is_the_threads_own(families):
    encoder = load_encoder(families["bert"], pooling="cls", dropout=0.3)
    use_own_dropout(encoder.body)
    use_sliced_attention(encoder.body)
    spans, made = Spans(encoder.train(), PASSAGES, SENTENCES), []
    for seed in (1, 1, 2):
        with seeded(seed):
            made.append(spans(*inputs()))
    assert torch.equal(made[0], made[1]) and not torch.allclose(made[0], made[2], atol=1e-3)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_mean_pooled_spans_by_a_loop(families, pooling):
    encoder = encoder_of(families["roberta"], pooling=pooling)
    ids, mask, spans = inputs()
    rows = Spans(encoder, PASSAGES, SENTENCES, "mean")(ids, mask, spans).unflatten(1, (8, -1))
    states = encoder.body(input_ids=ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(rows[:, 0], encoder(ids, mask), atol=1e-5, rtol=0)
    for text, at, (first, end) in there():
        if at:
            torch.testing.assert_close(rows[text, at], states[text, first:end].mean(0), atol=1e-5, rtol=0)


def test_edges_join_what_contains_and_what_follows():
    found = edges(torch.tensor(SPANS), PASSAGES)
    names = ["d", "p1", "p2", "p3", "s1", "s2", "s3", "s4"]
    pairs = [{frozenset((names[i], names[j])) for i, j in relation.nonzero().tolist()} for relation in found[0]]
    assert pairs[0] == set(
        map(frozenset, [("d", "p1"), ("d", "p2"), ("d", "p3"), ("p1", "s1"), ("p1", "s2"), ("p2", "s3"), ("p2", "s4")])
    )
    assert pairs[1] == set(map(frozenset, [("p1", "p2"), ("p2", "p3"), ("s1", "s2"), ("s2", "s3"), ("s3", "s4")]))
    short = [{frozenset((names[i], names[j])) for i, j in relation.nonzero().tolist()} for relation in found[2]]
    assert short == [set(map(frozenset, [("d", "p1"), ("p1", "s1")])), set()]
    assert torch.equal(found, found.transpose(2, 3))


def test_the_graph_by_a_loop_over_neighbours():
    graph, torch_edges = Rgat(6, layers=2), edges(torch.tensor(SPANS), PASSAGES)
    with torch.no_grad():
        for parameter in graph.parameters():
            parameter.mul_(30)
    nodes = torch.randn(3, 8, 6, generator=torch.Generator().manual_seed(2))
    expected = nodes.clone()
    for layer in range(2):
        new = expected.clone()
        for text in range(3):
            for node in range(8):
                neighbours = [
                    (relation, other)
                    for relation in range(2)
                    for other in range(8)
                    if torch_edges[text, relation, node, other]
                ]
                if not neighbours:
                    continue
                messages = torch.stack(
                    [expected[text, other] @ graph.weights[layer, relation] for relation, other in neighbours]
                )
                own = torch.stack(
                    [
                        expected[text, node] @ graph.weights[layer, relation] @ graph.to_[layer, relation]
                        for relation, _ in neighbours
                    ]
                )
                theirs = torch.stack(
                    [
                        message @ graph.from_[layer, relation]
                        for message, (relation, _) in zip(messages, neighbours, strict=True)
                    ]
                )
                shares = torch.softmax(torch.nn.functional.leaky_relu(own + theirs, 0.2), 0)
                new[text, node] = expected[text, node] + shares @ messages
        expected = new
    torch.testing.assert_close(graph(nodes, torch_edges), expected, atol=1e-4, rtol=1e-4)


def test_the_graph_is_trained_and_the_document_is_the_encoders_own(families):
    encoder = encoder_of(families["bert"])
    student = SpanStudent(encoder, PASSAGES, SENTENCES, "rgat")
    rows = student.of("document")(*inputs()).unflatten(1, (8, -1))
    torch.testing.assert_close(rows[:, 0], encoder(*inputs()[:2]), atol=1e-5, rtol=0)
    rows[:, 1:].square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in student.graph.parameters())


def test_the_graph_is_drawn_by_the_seed(families):
    encoder = encoder_of(families["bert"])
    graphs = [SpanStudent(encoder, PASSAGES, SENTENCES, "rgat", seed).graph.weights for seed in (1, 1, 2)]
    assert torch.equal(graphs[0], graphs[1]) and not torch.equal(graphs[0], graphs[2])


def test_a_body_or_pooling_without_spans_is_refused(families):
    with pytest.raises(InputError, match="found a distilbert body"):
        Spans(load_encoder(families["distilbert"], pooling="cls"), 1, 1)
    with pytest.raises(InputError, match="pooled by mean, expected cls"):
        Spans(load_encoder(families["bert"], pooling="mean"), 1, 1)


def test_spans_of_a_body_with_a_relevance_module(families):
    from drtools.models.rem import add_rem, rem_parameters
    from drtools.models.settings import RemSettings

    encoder = encoder_of(families["bert"])
    plain = Spans(encoder, PASSAGES, SENTENCES)(*inputs())
    add_rem(encoder, RemSettings(4, 4), 1)
    with torch.no_grad():
        for parameter in rem_parameters(encoder).values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    ids, mask, spans = inputs()
    rows = Spans(encoder, PASSAGES, SENTENCES)(ids, mask, spans)
    torch.testing.assert_close(rows[:, :32], encoder(ids, mask), atol=1e-5, rtol=0)
    assert (rows - plain).abs().max() > 0.1
