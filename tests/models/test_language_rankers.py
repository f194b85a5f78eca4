"""Language models that score pairs, beside sentence-transformers' CrossEncoder and the families' own formulas."""

import json
import shutil

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from test_cross_encoder import logits_of

from drtools.encoding.loop import encode_tokens
from drtools.errors import InputError
from drtools.methods.adam.dark import special_of_teacher
from drtools.models.compute import Compute, place
from drtools.models.cross_encoder import load_cross_encoder
from drtools.models.pair_tokens import tokenize_pairs
from drtools.models.specs import ReadingSpec
from drtools.teachers.scoring import load_teacher
from tests.models.tiny_rankers import QWEN3_TEMPLATE

QUERIES = ["fox hunts", "which river", "hammer vise 7"]
DOCUMENTS = ["the fox swims in the river.", "anvil chisel, lathe: 12", "hill", "otter " * 12 + "sleeps"]
PAIRS = [(query, document) for query in QUERIES for document in (text.strip() for text in DOCUMENTS)]
QUERY = "fox hunts river lake anvil chisel"
LONG = [("fox hunts", " ".join(["otter sleeps"] * 200)), ("river", "lake " * 400 + "swims.")]


def same(ours, theirs) -> None:
    """Compare scores, and the order of documents for each query."""
    assert np.std(theirs) > 0.05
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    if len(ours) == len(PAIRS):
        for start in range(0, len(PAIRS), len(DOCUMENTS)):
            part = slice(start, start + len(DOCUMENTS))
            np.testing.assert_array_equal(np.argsort(ours[part]), np.argsort(theirs[part]))


def predicted(folder, pairs=PAIRS, **more):
    return CrossEncoder(str(folder), device="cpu").predict(pairs, **more)


def test_the_files_of_sentence_transformers_say_template_prompt_and_tokens(chat_reranker):
    encoder = load_cross_encoder(str(chat_reranker))
    same(logits_of(encoder, PAIRS), predicted(chat_reranker))
    text = encoder.tokenizer.decode(tokenize_pairs(encoder, PAIRS[:1]).flat.tolist())
    assert "<Instruct>: Given a hunt, retrieve the animals that hunt\n<Query>: fox hunts\n<Document>: the fox" in text


def test_of_a_long_document_only_its_end_is_lost_and_it_is_counted(chat_reranker):
    encoder = load_cross_encoder(str(chat_reranker))
    tokens = tokenize_pairs(encoder, LONG)
    assert tokens.truncated == 2 and tokens.truncated_queries == 0 and tokens.lengths.tolist() == [256, 256]
    np.testing.assert_allclose(logits_of(encoder, LONG), predicted(chat_reranker, LONG), rtol=1e-5, atol=1e-5)
    for row in range(2):
        text = encoder.tokenizer.decode(tokens.flat[tokens.starts[row] : tokens.starts[row + 1]].tolist())
        assert text.endswith("<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n")


def test_lengths_cut_the_texts_and_never_the_template(chat_reranker):
    encoder = load_cross_encoder(str(chat_reranker))
    encoder.set_lengths(5, 4)
    before = encoder.template.special
    tokens = tokenize_pairs(
        encoder,
        [(QUERY, "otter sleeps lake hill meadow marsh"), ("fox", "hill"), ("fox", "")],
        [None, None, 9],
    )
    texts = [
        encoder.tokenizer.decode(tokens.flat[start:end].tolist())
        for start, end in zip(tokens.starts, tokens.starts[1:], strict=False)
    ]
    (query, document), *_ = (text.split("<Query>: ")[1].split("<|im_end|>")[0].split("\n<Document>:") for text in texts)
    assert QUERY.startswith(query) and 5 < len(query) < 25
    assert "otter sleeps lake hill meadow marsh".startswith(document.strip()) and 5 < len(document) < 28
    assert (tokens.truncated, tokens.truncated_queries, tokens.empty) == (1, 1, 1)
    assert tokens.lengths[0] <= before + 5 + 4 and texts[0].endswith("</think>\n")


def test_an_instruction_takes_the_place_of_the_prompt_in_the_files(chat_reranker):
    encoder = load_cross_encoder(str(chat_reranker), reading=ReadingSpec(instruction="Find tools"))
    ours = logits_of(encoder, PAIRS)
    same(ours, predicted(chat_reranker, prompt="Find tools"))
    assert np.abs(ours - predicted(chat_reranker)).max() > 0.01
    plain = load_cross_encoder(str(chat_reranker), reading=ReadingSpec(instruction=""))
    same(logits_of(plain, PAIRS), predicted(chat_reranker, prompt=""))
    default = [(query, document) for query, document in PAIRS]
    assert "Given a web search query" in plain.tokenizer.decode(tokenize_pairs(plain, default[:1]).flat.tolist())


def test_a_single_token_and_other_tokens(chat_reranker, tmp_path):
    folder = tmp_path / "single"
    shutil.copytree(chat_reranker, folder)
    score = folder / "1_LogitScore" / "config.json"
    score.write_text(json.dumps(json.loads(score.read_text()) | {"false_token_id": None}))
    same(logits_of(load_cross_encoder(str(folder)), PAIRS), predicted(folder))
    vocabulary = load_cross_encoder(str(folder)).tokenizer.get_vocab()
    score.write_text(json.dumps({"true_token_id": vocabulary["1"], "false_token_id": vocabulary["0"]}))
    asked = load_cross_encoder(str(chat_reranker), reading=ReadingSpec(score_tokens="1,0"))
    same(logits_of(asked, PAIRS), predicted(folder))
    with pytest.raises(InputError, match="the tokenizer has no token 'certainly'"):
        load_cross_encoder(str(chat_reranker), reading=ReadingSpec(score_tokens="certainly,no"))


def qwen3_scores(folder, pairs, instruction):
    """Compute the scores as Qwen's model card describes them: p(yes) of a softmax over two tokens, padded left."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    prefix = QWEN3_TEMPLATE.split("<Instruct>")[0]
    suffix = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    start, end = (tokenizer.encode(text, add_special_tokens=False) for text in (prefix, suffix))
    middle = [f"<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}" for query, document in pairs]
    ids = [[*start, *tokenizer.encode(text, add_special_tokens=False), *end] for text in middle]
    batch = tokenizer.pad({"input_ids": ids}, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**batch).logits[:, -1]
    chosen = logits[:, tokenizer.convert_tokens_to_ids(["no", "yes"])]
    return chosen.log_softmax(dim=1)[:, 1].exp().numpy()


def test_qwen3_reranker_is_known_by_its_name(qwen3_reranker, tmp_path):
    encoder = load_cross_encoder(str(qwen3_reranker))
    ours = logits_of(encoder, PAIRS)
    usual = "Given a web search query, retrieve relevant passages that answer the query"
    same(1 / (1 + np.exp(-ours.astype(np.float64))), qwen3_scores(qwen3_reranker, PAIRS, usual))
    told = load_cross_encoder(str(qwen3_reranker), reading=ReadingSpec(instruction="Find tools"))
    same(
        1 / (1 + np.exp(-logits_of(told, PAIRS).astype(np.float64))), qwen3_scores(qwen3_reranker, PAIRS, "Find tools")
    )
    other = tmp_path / "my-model"
    shutil.copytree(qwen3_reranker, other)
    with pytest.raises(InputError, match="found Qwen3ForCausalLM, a language model whose files do not say"):
        load_cross_encoder(str(other))
    named = load_cross_encoder(str(other), reading=ReadingSpec(pair_template="qwen3-reranker"))
    np.testing.assert_array_equal(logits_of(named, PAIRS), ours)


def test_a_template_of_ones_own(qwen3_reranker):
    template = "{instruction} {query}\n{document}\nAnswer:"
    reading = ReadingSpec(pair_template=template, score_tokens="Yes,No", instruction="Same?")
    encoder = load_cross_encoder(str(qwen3_reranker), reading=reading)
    ids = tokenize_pairs(encoder, PAIRS[:1]).flat.tolist()
    assert encoder.tokenizer.decode(ids) == "Same? fox hunts\nthe fox swims in the river.\nAnswer:"
    with pytest.raises(InputError, match=r"expected qwen3-reranker, .* or a text with {query} and {document}"):
        load_cross_encoder(str(qwen3_reranker), reading=ReadingSpec(pair_template="qwen4"))
    with pytest.raises(InputError, match=r"the template has a place for {instruction}.*pass instruction"):
        load_cross_encoder(str(qwen3_reranker), reading=ReadingSpec(pair_template=template, score_tokens="Yes,No"))


def test_all_that_changes_a_score_changes_the_fingerprint(chat_reranker, qwen3_reranker):
    readings = [
        ReadingSpec(),
        ReadingSpec(instruction="Find tools"),
        ReadingSpec(score_tokens="1,0"),
        ReadingSpec(score_tokens="yes"),
        ReadingSpec(pair_template="{query} {document}"),
        ReadingSpec(pair_template="{query}\n{document}"),
    ]
    found = [load_cross_encoder(str(chat_reranker), reading=reading).fingerprint() for reading in readings]
    assert len({*found, load_cross_encoder(str(qwen3_reranker)).fingerprint()}) == len(readings) + 1
    assert load_cross_encoder(str(chat_reranker)).fingerprint() == found[0]


def test_scores_have_the_same_bits_alone_and_in_company(chat_reranker):
    encoder = load_cross_encoder(str(chat_reranker))
    computing = Compute("cpu", "fp32", 2048)
    place(encoder, computing)

    def scores(pairs):
        found = np.empty((len(pairs), 1), np.float32)
        encode_tokens(encoder, tokenize_pairs(encoder, pairs), computing, found, one_length=True)
        return found[:, 0]

    together = scores(PAIRS)
    np.testing.assert_array_equal(np.concatenate([scores([pair]) for pair in PAIRS]), together)
    np.testing.assert_allclose(logits_of(encoder, PAIRS), together, rtol=1e-5, atol=1e-5)
    assert together.std() > 0.05


def test_arguments_of_the_chat_template_in_the_files_are_used(chat_reranker, tmp_path):
    folder = tmp_path / "argued"
    shutil.copytree(chat_reranker, folder)
    (folder / "chat_template.jinja").write_text(QWEN3_TEMPLATE + "{{ ending | default('') }}")
    path = folder / "sentence_bert_config.json"
    settings = json.loads(path.read_text()) | {"processing_kwargs": {"chat_template": {"ending": "Answer: "}}}
    path.write_text(json.dumps(settings))
    ours = logits_of(load_cross_encoder(str(folder)), PAIRS)
    same(ours, predicted(folder))
    assert np.abs(ours - predicted(chat_reranker)).max() > 0.01
    path.write_text(json.dumps(settings | {"processing_kwargs": {"text": {"max_length": 20}}}))
    with pytest.raises(InputError, match="expected only arguments of the chat template"):
        load_cross_encoder(str(folder))


def test_dark_items_are_refused_by_a_teacher_that_reads_a_template(chat_reranker, cache):
    teacher = load_teacher([str(chat_reranker)], Compute("cpu", "fp32", 64))
    assert special_of_teacher(teacher, (), "fox").room > 0
    with pytest.raises(InputError, match="which the special tokens of dark items would break"):
        special_of_teacher(teacher, {"reinforced"}, "fox")
