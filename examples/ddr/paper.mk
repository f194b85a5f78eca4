# The public files of DDR in English: MS MARCO's passages, hard negatives and a cross-encoder's scores, and the targets.

include $(EXAMPLES)/msmarco.mk
PAPER := english
HF ?= hf
LOTTE_DOMAINS := writing recreation technology lifestyle science
DATA_TARGETS ?= $(PUBLIC)/trec-covid $(LOTTE_DOMAINS:%=$(PUBLIC)/lotte/%)
HARD_PAGE := https://huggingface.co/datasets/sentence-transformers/msmarco-hard-negatives

ITEMS := passages negatives $(filter trec-covid,$(notdir $(DATA_TARGETS))) $(patsubst %,lotte-%,$(filter $(LOTTE_DOMAINS),$(notdir $(DATA_TARGETS))))
title.negatives := MS MARCO hard negatives and the scores of cross-encoder/ms-marco-MiniLM-L-6-v2
files.negatives := $(MSMARCO)/msmarco-hard-negatives.jsonl.gz $(MSMARCO)/cross-encoder-ms-marco-MiniLM-L-6-v2-scores.pkl.gz
page.negatives := $(HARD_PAGE)
size.negatives := 1.2 GB and 1.4 GB
license.negatives := not stated on its page; derived from MS MARCO
fetch.negatives = $(HF) download sentence-transformers/msmarco-hard-negatives $(notdir $(files.negatives)) --repo-type dataset --local-dir $(MSMARCO)
title.trec-covid := TREC-COVID in BEIR's form
files.trec-covid := $(filter %/trec-covid,$(DATA_TARGETS))/qrels/test.tsv
page.trec-covid := https://github.com/beir-cellar/beir
size.trec-covid := 74 MB
fetch.trec-covid = $(DRTOOLS) collection beir/trec-covid -o $(patsubst %/qrels/test.tsv,%,$(files.trec-covid))
define lotte
title.lotte-$(1) := LoTTE $(1), forum queries
files.lotte-$(1) := $(filter %/$(1),$(DATA_TARGETS))/qrels/test.tsv
page.lotte-$(1) := https://github.com/stanford-futuredata/ColBERT/blob/main/LoTTE.md
size.lotte-$(1) := 3.6 GB for all of LoTTE
fetch.lotte-$(1) = $$(DRTOOLS) collection lotte/$(1)/test/forum --split test -o $(filter %/$(1),$(DATA_TARGETS))
endef
$(foreach domain,$(LOTTE_DOMAINS),$(eval $(call lotte,$(domain))))
PAPER_RUN := tables distilled PAPER=english MSMARCO=$(MSMARCO) DATA_TARGETS="$(DATA_TARGETS)"
PAPER_NOTE := The first model is bert-base-uncased of the Hugging Face hub.
