"""Encode texts into vectors: folders of vectors, updates, pieces, several devices."""
