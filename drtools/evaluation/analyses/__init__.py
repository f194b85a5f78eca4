"""The analyses of the papers: numbers, a table, a picture."""
