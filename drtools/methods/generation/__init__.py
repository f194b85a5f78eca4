"""Queries that a language model writes for documents (doc2query, GPL, InPars)."""
