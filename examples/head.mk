# What the papers' Makefiles begin with: one shell that fails loudly, targets that are whole or gone, and where things are.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SECONDARY:
.SUFFIXES:

THIS := $(lastword $(filter-out %head.mk,$(MAKEFILE_LIST)))
HERE := $(patsubst %/,%,$(dir $(THIS)))
ROOT := $(if $(filter examples/,$(dir $(HERE))),.,$(HERE)/../..)
DRTOOLS ?= $(patsubst ./%,%,$(ROOT)/bin/drtools)
TRAIN ?= $(DRTOOLS)

# MS MARCO's files by their published names, or as `drtools collection` writes those of the passages into MSMARCO/passages (paper.mk);
# a collection's in BEIR form, plain or .gz; lengths of queries and documents as flags
as_beir.collection.tsv := corpus.jsonl
as_beir.queries.train.tsv := queries.jsonl
as_beir.queries.dev.small.tsv := queries.jsonl
as_beir.msmarco-test2019-queries.tsv := queries.jsonl
as_beir.qrels.train.tsv := qrels/train.tsv
as_beir.qrels.dev.small.tsv := qrels/dev-small.tsv
as_beir.2019qrels-pass.txt := qrels/trec-dl-2019-judged.tsv
published = $(firstword $(wildcard $(MSMARCO)/$(1) $(MSMARCO)/$(1).gz $(as_beir.$(1):%=$(MSMARCO)/passages/%)) $(MSMARCO)/$(1))
file_of = $(firstword $(wildcard $(1)/$(2).gz $(1)/$(2)) $(1)/$(2).gz)
beir = $(call file_of,$(DATA),$(1))
# BM25's parameters that Anserini tuned on MS MARCO: the papers' figures on dev are those, on TREC DL those of the default
tuned_passages := --k1 0.82 --b 0.68
tuned_documents := --k1 4.46 --b 0.82
# what BEIR does with a collection in its form: a document with the query's own id (ArguAna, Quora) is left out of each list
IDENTICAL ?= $(if $(DATA)$(DATA_TARGETS),--ignore-identical-ids)
tokens = $(strip $(if $(1),--max-query-tokens $(1)) $(if $(2),--max-document-tokens $(2)))

# prerequisites: what is made under OUT; of folders that were made elsewhere the manifest, so that one that was made again is noticed
made = $(foreach each,$(1),$(if $(filter $(OUT)/%,$(each)),$(each),$(wildcard $(each)/manifest.json)))

# the public files of a paper: `make paper`, `make paper-files`
EXAMPLES := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
ifneq ($(filter paper paper-%,$(MAKECMDGOALS)),)
PUBLIC ?= public
include $(dir $(firstword $(MAKEFILE_LIST)))paper.mk
include $(EXAMPLES)/public.mk
endif
