"""Outputs that are whole or not there: partial folders, requests, manifests, releases."""
