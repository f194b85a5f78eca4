"""Lucene's analyzers, which turn texts into terms."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import orjson

from drtools.errors import InputError
from drtools.java import JavaObject, java_class


def language_analyzer(language: str) -> JavaObject:
    """Return the Java object that analyzes texts of a language. Raises InputError if Lucene has none."""
    if language == "en":
        return java_class("io.anserini.analysis.DefaultEnglishAnalyzer").newDefaultInstance()
    analyzers = java_class("io.anserini.analysis.AnalyzerMap")
    if not analyzers.analyzerMap.containsKey(language):
        known = ", ".join(sorted(["en", *analyzers.analyzerMap.keySet()]))
        raise InputError(f"language {language!r} has no Lucene analyzer; those that have: {known}")
    return analyzers.getLanguageSpecificAnalyzer(language)


class Analyzer:
    """Lucene's analyzer for a language, which Lucene indexes of that language use too.

    It turns texts into lists of terms, with repetitions.
    """

    def __init__(self, language: str) -> None:
        self._analyzer = language_analyzer(language)
        self._analyze = java_class("io.anserini.analysis.AnalyzerUtils").analyze
        self._json = java_class(
            "com.fasterxml.jackson.databind.ObjectMapper"
        )()  # one string for each text: a call for each term takes six times as long

    def __call__(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the terms of each text."""
        import jnius

        try:
            return [orjson.loads(self._json.writeValueAsString(self._analyze(self._analyzer, text))) for text in texts]
        finally:
            if threading.current_thread() is not threading.main_thread():
                jnius.detach()  # otherwise Java keeps the thread after its end
