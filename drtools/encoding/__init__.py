"""Texts to vectors: folders of vectors, updates, pieces, several devices."""
