"""Displays of artefacts, their lineage and this machine."""
