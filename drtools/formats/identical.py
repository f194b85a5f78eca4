"""Collections whose queries are also documents (ArguAna, Quora): the document with a query's id is left out.

This is BEIR's rule: the document is dropped from the query's list before the list is cut and measured.
"""

from drtools.formats.trec import Run


def without_identical(run: Run) -> tuple[Run, int]:
    """Return a run without each query's document of its own id, and of how many queries one was left out."""
    count = sum(query_id in hits for query_id, hits in run.items())
    return {query_id: without_own(query_id, hits) for query_id, hits in run.items()}, count


def without_own(query_id: str, hits: dict[str, float]) -> dict[str, float]:
    """Return a query's hits without the document of its id, in their order."""
    if query_id not in hits:
        return hits
    return {document: score for document, score in hits.items() if document != query_id}
