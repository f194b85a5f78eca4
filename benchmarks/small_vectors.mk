# Small vectors and false negatives, from all-MiniLM-L6-v2 on a collection in BEIR form; a stopped run continues.
#
#   make -f benchmarks/small_vectors.mk DATA=path/to/nfcorpus OUT=build/small/nfcorpus matryoshka   nDCG@10 at each of DIMENSIONS, trained with
#                                                                             and without --matryoshka, and bytes and ms of each dimension
#   make -f benchmarks/small_vectors.mk DATA=build/pooled OUT=build/small/pooled suggest     suggest-index on the start's vectors (benchmarks/pooled.py
#                                                                             makes the collection)
#   make -f benchmarks/small_vectors.mk DATA=... OUT=... guard                for each share of HIDDEN training judgements: no guard, a guide, the own margin

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.ONESHELL:
.SECONDARY:

DRTOOLS ?= bin/drtools
PYTHON ?= python
MODEL ?= sentence-transformers/all-MiniLM-L6-v2
DIMENSIONS ?= 384 192 96 48
NESTED ?= 384,192,96,48
HIDDEN ?= 0 0.1 0.3
GUIDE ?= $(MODEL)
MARGIN ?= 0.1
STEPS ?= 120
RATE ?= 2e-5
BATCH ?= 32
EVERY ?= 30
DOCUMENT_TOKENS ?= 160
DEV_DOCUMENTS ?= 1000
CORPUS := $(DATA)/corpus.jsonl.gz
QUERIES := $(DATA)/queries.jsonl.gz
TEST := --queries $(QUERIES) --only $(DATA)/qrels/test.tsv
train = $(DRTOOLS) train-contrastive --model $(MODEL) --corpus $(CORPUS) --queries $(QUERIES) --dev-qrels $(DATA)/qrels/dev.tsv \
	--dev-documents $(DEV_DOCUMENTS) --max-document-tokens $(DOCUMENT_TOKENS) --steps $(STEPS) --learning-rate $(RATE) --batch-queries $(BATCH) \
	--evaluate-every-steps $(EVERY) --renew -o $@

.PHONY: matryoshka suggest guard
NAMES := start plain nested
RUNS := $(foreach dimension,$(DIMENSIONS),$(foreach name,$(NAMES),$(OUT)/$(name)-$(dimension).run))
matryoshka: $(RUNS) $(foreach dimension,$(DIMENSIONS),$(OUT)/flat-$(dimension).txt)
	for dimension in $(DIMENSIONS); do
		$(DRTOOLS) eval --qrels $(DATA)/qrels/test.tsv --baseline $(OUT)/plain-$$dimension.run \
			$(foreach name,$(NAMES),$(OUT)/$(name)-$$dimension.run) --measures nDCG@10
		cat $(OUT)/flat-$$dimension.txt
	done
suggest: $(OUT)/suggested.txt
	cat $<
GUARDED := $(foreach share,$(HIDDEN),$(foreach name,none guide own,$(OUT)/hidden-$(share)/$(name).run))
guard: $(GUARDED)
	for share in $(HIDDEN); do
		echo "hidden: $$share"
		$(DRTOOLS) eval --qrels $(DATA)/qrels/test.tsv --baseline $(OUT)/hidden-$$share/none.run \
			$(foreach name,none guide own,$(OUT)/hidden-$$share/$(name).run) --measures nDCG@10
		for name in guide own; do
			$(PYTHON) -c 'import json, sys; print(sys.argv[1], json.load(open(sys.argv[1]))["false_negatives"])' $(OUT)/hidden-$$share/$$name/manifest.json
		done
	done

$(OUT)/start-vectors:
	mkdir -p $(OUT)
	$(DRTOOLS) encode --model $(MODEL) --corpus $(CORPUS) --max-document-tokens $(DOCUMENT_TOKENS) --renew -o $@
$(OUT)/examples.jsonl: $(OUT)/start-vectors
	$(DRTOOLS) mine-negatives --queries $(QUERIES) --qrels $(DATA)/qrels/train.tsv --vectors $< --ranks 1-100 --renew -o $@
$(OUT)/plain: $(OUT)/examples.jsonl
	$(train) --examples $<
$(OUT)/nested: $(OUT)/examples.jsonl
	$(train) --examples $< --matryoshka $(NESTED)

# $(1): a model by its name here, $(2): a dimension
define of_dimension
$(OUT)/$(1)-$(2).run: $(OUT)/$(1)-$(2)-vectors
	$(DRTOOLS) search --vectors $$< $(TEST) --depth 100 --renew -o $$@
endef
define vectors_of
$(OUT)/$(1)-$(2)-vectors: $(3)
	mkdir -p $(OUT)
	$(DRTOOLS) encode --model $(4) --corpus $(CORPUS) --max-document-tokens $(DOCUMENT_TOKENS) --truncate-dimension $(2) --renew -o $$@
endef
$(foreach dimension,$(DIMENSIONS),$(foreach name,$(NAMES),$(eval $(call of_dimension,$(name),$(dimension)))))
$(foreach dimension,$(DIMENSIONS),$(eval $(call vectors_of,start,$(dimension),,$(MODEL))))
$(foreach dimension,$(DIMENSIONS),$(foreach name,plain nested,$(eval $(call vectors_of,$(name),$(dimension),$(OUT)/$(name),$(OUT)/$(name)))))
$(OUT)/flat-%.txt: $(OUT)/nested-%-vectors
	$(DRTOOLS) suggest-index --vectors $< --factory Flat --factory SQfp16 --factory int8 --factory binary --renew -o $@

$(OUT)/query-vectors:
	mkdir -p $(OUT)
	$(DRTOOLS) encode --model $(MODEL) $(TEST) --renew -o $@
$(OUT)/suggested.txt: $(OUT)/start-vectors $(OUT)/query-vectors
	$(DRTOOLS) suggest-index --vectors $(OUT)/start-vectors --query-vectors $(OUT)/query-vectors --renew -o $@

# judgements of training queries are hidden before negatives are mined, so that hidden documents are mined too
define hidden
$(OUT)/hidden-$(1)/train.tsv: $(DATA)/qrels/train.tsv
	mkdir -p $(OUT)/hidden-$(1)
	$(PYTHON) benchmarks/hide_judgements.py $$< --share $(1) > $$@
$(OUT)/hidden-$(1)/examples.jsonl: $(OUT)/hidden-$(1)/train.tsv $(OUT)/start-vectors
	$(DRTOOLS) mine-negatives --queries $(QUERIES) --qrels $$< --vectors $(OUT)/start-vectors --ranks 1-100 --renew -o $$@
$(OUT)/hidden-$(1)/none: $(OUT)/hidden-$(1)/examples.jsonl
	$$(train) --examples $$<
$(OUT)/hidden-$(1)/guide: $(OUT)/hidden-$(1)/examples.jsonl
	$$(train) --examples $$< --guide $(GUIDE)
$(OUT)/hidden-$(1)/own: $(OUT)/hidden-$(1)/examples.jsonl
	$$(train) --examples $$< --self-guide --guide-margin $(MARGIN)
endef
$(foreach share,$(HIDDEN),$(eval $(call hidden,$(share))))
define guarded_run
$(OUT)/hidden-$(1)/$(2)-vectors: $(OUT)/hidden-$(1)/$(2)
	$(DRTOOLS) encode --model $$< --corpus $(CORPUS) --max-document-tokens $(DOCUMENT_TOKENS) --renew -o $$@
$(OUT)/hidden-$(1)/$(2).run: $(OUT)/hidden-$(1)/$(2)-vectors
	$(DRTOOLS) search --vectors $$< $(TEST) --depth 100 --renew -o $$@
endef
$(foreach share,$(HIDDEN),$(foreach name,none guide own,$(eval $(call guarded_run,$(share),$(name)))))
