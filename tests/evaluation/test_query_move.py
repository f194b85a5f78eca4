import numpy as np
import pytest

from drtools.evaluation.query_move import all_scores, best_rows, embed, project, rank_of


@pytest.fixture
def world():
    generator = np.random.default_rng(5)
    return generator.normal(size=(50, 12)).astype(np.float16), generator.normal(size=(2, 12)).astype(np.float32)


def test_scores_and_ranks_equal_brute_force(world):
    documents, queries = world
    documents[7] = documents[3]  # a tie
    scores = all_scores(documents, queries)
    assert scores == pytest.approx(queries @ documents.astype(np.float32).T)
    for row in scores:
        order = sorted(range(50), key=lambda at: (-row[at], at))
        assert best_rows(row, 9) == order[:9]
        assert [rank_of(row, at) for at in order] == list(range(1, 51))


def test_the_move_and_every_gain_of_score_are_seen(world):
    documents, queries = world
    plane = project(documents, *queries)
    length = np.linalg.norm(queries[1] - queries[0])
    assert plane.queries[1] - plane.queries[0] == pytest.approx([length, 0], abs=1e-6)
    # the place along the move, times its length, is what the score gains, but for one constant
    gains = documents.astype(np.float64) @ (queries[1] - queries[0])
    assert plane.documents[:, 0] * length == pytest.approx(gains - gains.mean(), abs=1e-5)
    # no direction across the move shows more of the documents
    generator = np.random.default_rng(1)
    move = (queries[1] - queries[0]) / length
    centred = documents - documents.astype(np.float64).mean(axis=0)
    for _ in range(200):
        other = generator.normal(size=12)
        other -= (other @ move) * move
        assert ((centred @ other) ** 2).sum() / (other @ other) <= (plane.documents[:, 1] ** 2).sum() + 1e-9
    # an orthogonal projection: distances in the plane are never above the true ones
    shown = np.linalg.norm(plane.documents[:, None] - plane.documents[None], axis=-1)
    assert (shown <= np.linalg.norm(centred[:, None] - centred[None], axis=-1) + 1e-9).all()
    assert plane.spread == pytest.approx((plane.documents**2).sum() / (centred**2).sum())


def test_no_move_and_few_documents(world):
    documents, queries = world
    assert project(documents, queries[0], queries[0]) is None
    alone = project(documents[:1], *queries)
    assert alone.documents == pytest.approx(np.zeros((1, 2))) and alone.spread == 1.0


@pytest.mark.parametrize("count", [1, 2, 50])
def test_t_sne_is_scikit_learns_and_repeats_itself(world, count):
    from sklearn.manifold import TSNE

    documents, queries = world
    first, again = (embed(documents[:count], *queries) for _ in range(2))
    assert np.array_equal(first.documents, again.documents) and np.array_equal(first.queries, again.queries)
    assert first.documents.shape == (count, 2) and first.queries.shape == (2, 2)
    points = np.concatenate([documents[:count].astype(np.float64), queries.astype(np.float64)])
    peer = TSNE(perplexity=min(30, (count + 1) / 3), init="pca", random_state=0, method="exact").fit_transform(points)
    assert np.array_equal(np.concatenate([first.documents, first.queries]), peer)


def test_t_sne_keeps_clusters_apart():
    generator = np.random.default_rng(2)
    middles = 20 * np.eye(3, 12)
    documents = np.concatenate([middle + generator.normal(size=(30, 12)) for middle in middles])
    plane = embed(documents, middles[0], middles[2])
    cluster = np.repeat(range(3), 30)
    distances = np.linalg.norm(plane.documents[:, None] - plane.documents[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert (cluster[distances.argmin(axis=1)] == cluster).all()
    to_queries = np.linalg.norm(plane.documents[None] - plane.queries[:, None], axis=-1)
    assert cluster[to_queries.argmin(axis=1)].tolist() == [0, 2], "each query among its documents"
