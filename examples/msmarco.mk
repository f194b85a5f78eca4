# MS MARCO's public files, as the papers' examples take them. Sizes are those of the downloads.

MSMARCO ?= $(PUBLIC)/msmarco
MSMARCO_PAGE := https://microsoft.github.io/msmarco/Datasets
MSMARCO_TERMS := none; for non-commercial research only (the page's terms)

title.passages := MS MARCO passages with train and dev queries
files.passages = $(foreach name,collection.tsv queries.train.tsv queries.dev.small.tsv qrels.train.tsv qrels.dev.small.tsv,$(call published,$(name)))
page.passages := $(MSMARCO_PAGE)
size.passages := 1.1 GB
license.passages := $(MSMARCO_TERMS)
fetch.passages = $(DRTOOLS) collection msmarco-passage/train msmarco-passage/dev/small msmarco-passage/trec-dl-2019/judged -o $(MSMARCO)/passages

fetched.dl19-passages := with the passages, or by hand
title.dl19-passages := TREC Deep Learning 2019, passages
files.dl19-passages = $(call published,msmarco-test2019-queries.tsv) $(call published,2019qrels-pass.txt)
page.dl19-passages := https://microsoft.github.io/msmarco/TREC-Deep-Learning-2019
size.dl19-passages := 0.2 MB

title.documents := MS MARCO documents with train and dev queries
files.documents = $(foreach name,msmarco-docs.tsv msmarco-doctrain-queries.tsv msmarco-doctrain-qrels.tsv msmarco-docdev-queries.tsv msmarco-docdev-qrels.tsv,$(call published,$(name)))
page.documents := $(MSMARCO_PAGE)
size.documents := 22 GB unpacked
license.documents := $(MSMARCO_TERMS)

title.dl19-documents := TREC Deep Learning 2019, documents
files.dl19-documents = $(call published,msmarco-test2019-queries.tsv) $(call published,2019qrels-docs.txt)
page.dl19-documents := https://microsoft.github.io/msmarco/TREC-Deep-Learning-2019
size.dl19-documents := 0.4 MB
