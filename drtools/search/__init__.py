"""Exact search, FAISS and Lucene; mining, fusion and re-ranking."""
