"""Bytes <-> records: every file that tools pass each other. Never imports torch."""
