# ADORE on top of what benchmarks/star.mk trained: before and after, on the same collection; a stopped run continues.
#
#   make -f benchmarks/adore.mk DATA=path/to/wikipedia OUT=build/star/wikipedia
#
# For each of STARTS: its frozen vectors, the query encoder tuned against them by exact search, RR@10 with significance.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SECONDARY:

DRTOOLS ?= bin/drtools
STARTS ?= in-batch random star
STEPS ?= 300
RATE ?= 2e-5
QUERIES := $(DATA)/queries.jsonl.gz
TEST := --queries $(QUERIES) --only $(DATA)/qrels/test.tsv

.PHONY: tables
tables: $(foreach start,$(STARTS),$(OUT)/adore-$(start).txt)
	@for start in $(STARTS); do echo; cat $(OUT)/adore-$$start.txt; done

$(OUT)/adore-%: $(OUT)/%-vectors
	$(DRTOOLS) train-adore --model $(OUT)/$* --vectors $(OUT)/$*-vectors --queries $(QUERIES) --qrels $(DATA)/qrels/train.tsv --dev-qrels $(DATA)/qrels/dev.tsv \
		--dev-measures RR@10,nDCG@10 --metric rr@200 --max-query-tokens 64 --steps $(STEPS) --learning-rate $(RATE) --evaluate-every-steps 50 --update -o $@
$(OUT)/adore-%.run: $(OUT)/adore-%
	$(DRTOOLS) search --vectors $(OUT)/$*-vectors --model $< $(TEST) --update -o $@
$(OUT)/adore-%.txt: $(OUT)/adore-%.run
	$(DRTOOLS) eval --qrels $(DATA)/qrels/test.tsv --measures RR@10,nDCG@10,R@100 $(OUT)/$*.run $< > $@.new
	mv $@.new $@
