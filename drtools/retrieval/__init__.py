"""Finding documents: Lucene, FAISS, exact search, fusion, encoding."""
