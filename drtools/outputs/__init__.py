"""Outputs that are whole or absent: partial folders, requests, manifests, releases."""
