# The public files of SPAR: Wikipedia's passages and Natural Questions as DPR publishes them, and DPR's encoders as the base.

NQ ?= $(PUBLIC)/nq
BASE ?= $(PUBLIC)/dpr
DPR_PAGE := https://github.com/facebookresearch/DPR
ITEMS := passages questions base
title.passages := Wikipedia in passages of 100 words
files.passages = $(call published,psgs_w100.tsv)
page.passages := $(DPR_PAGE), data.wikipedia_split.psgs_w100
size.passages := 4.7 GB
title.questions := Natural Questions with answers
files.questions = $(call published,nq-dev.qa.csv) $(call published,nq-test.qa.csv)
page.questions := $(DPR_PAGE), data.retriever.qas.nq
title.base := DPR's encoders of Natural Questions
files.base := $(BASE)
page.base := https://huggingface.co/facebook/dpr-question_encoder-single-nq-base
size.base := 0.9 GB
license.base := CC BY-NC 4.0
fetch.base = $(DRTOOLS) import-model facebook/dpr-question_encoder-single-nq-base --document-checkpoint facebook/dpr-ctx_encoder-single-nq-base -o $(BASE)
PAPER_RUN := table NQ=$(NQ) BASE=$(BASE)
PAPER_NOTE := Lambda starts from bert-base-uncased of the Hugging Face hub. BASE=trained trains the base here, from biencoder-nq-train.json.
