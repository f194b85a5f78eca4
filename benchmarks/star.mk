# STAR, its baselines and contrastive training from all-MiniLM-L6-v2, on a collection in BEIR form; a stopped run continues.
#
#   make -f benchmarks/star.mk DATA=path/to/wikipedia OUT=build/star/wikipedia
#   make -f benchmarks/star.mk DATA=... OUT=... tune          dev nDCG@10 of each recipe of TUNE at each of RATES, BATCHES and LENGTHS
#
#   make -f benchmarks/star.mk DATA=... OUT=... adore         ADORE on top of each of STARTS, the best on dev of ADORE_RATES
#
# Every recipe of the table takes the same steps from the same start; RATE, BATCH and STEPS were chosen on dev by `tune`.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.ONESHELL:
.SECONDARY:

DRTOOLS ?= bin/drtools
MODEL ?= sentence-transformers/all-MiniLM-L6-v2
STEPS ?= 120
RATE ?= 5e-5
BATCH ?= 32
EVERY ?= 30
DOCUMENT_TOKENS ?= 160
DEV_DOCUMENTS ?= 1000
TUNE ?= star
RATES ?= 2e-5 5e-5 1e-4
BATCHES ?= 32
LENGTHS ?= 60
RECIPES ?= in-batch random bm25 contrastive star ance
CORPUS := $(DATA)/corpus.jsonl.gz
QUERIES := $(DATA)/queries.jsonl.gz
TEST := --queries $(QUERIES) --only $(DATA)/qrels/test.tsv

common = --model $(MODEL) --corpus $(CORPUS) --queries $(QUERIES) --dev-qrels $(DATA)/qrels/dev.tsv --dev-documents $(DEV_DOCUMENTS) --max-document-tokens $(DOCUMENT_TOKENS)
mined := --examples $(OUT)/mined.jsonl
in-batch := train-star --negatives in-batch $(mined)
random := train-star --negatives random $(mined)
bm25 := train-star --examples $(OUT)/bm25.jsonl
contrastive := train-contrastive $(mined)
contrastive-in-batch := train-contrastive --hard-negatives 0 $(mined)
contrastive-careful := train-contrastive --examples $(OUT)/careful.jsonl
contrastive-bm25 := train-contrastive --examples $(OUT)/bm25.jsonl
star := train-star $(mined)
ance := train-star $(mined) --refresh-every-steps 40 --refresh-ranks 1-100

STARTS ?= in-batch random star
ADORE_RATES ?= 1e-6 5e-6 2e-5
ADORE_STEPS ?= 300
ADORE_MORE ?= --metric rr@200

.PHONY: table tune adore
table: $(OUT)/table.txt
	@cat $<
	@for recipe in $(RECIPES); do python3 -c 'import json, sys; m = json.load(open(sys.argv[1])); print("%-12s %5.1f min  best dev %.4f at step %d" % (sys.argv[2], m["training_seconds"] / 60, m["best"]["value"], m["best"]["step"]))' $(OUT)/$$recipe/manifest.json $$recipe; done
grid := $(foreach recipe,$(TUNE),$(foreach batch,$(BATCHES),$(foreach rate,$(RATES),$(foreach length,$(LENGTHS),$(recipe):$(batch):$(rate):$(length)))))
tried = $(OUT)/tune-$(subst :,-,$(1))
tune: $(foreach point,$(grid),$(call tried,$(point)))
	@for run in $^; do python3 -c 'import json, sys; m = json.load(open(sys.argv[1] + "/manifest.json")); print("%-50s best dev %.4f at step %4d of %4d, start %.4f, %5.1f min" % (sys.argv[1], m["best"]["value"], m["best"]["step"], m["steps"], m["evaluations"][0]["nDCG@10"], m["training_seconds"] / 60))' $$run; done

$(OUT)/bm25-index:
	$(DRTOOLS) index --corpus $(CORPUS) --renew -o $@
$(OUT)/bm25-search.run: $(OUT)/bm25-index
	$(DRTOOLS) search --index $< $(TEST) --renew -o $@
$(OUT)/zero-shot-vectors:
	$(DRTOOLS) encode --model $(MODEL) --corpus $(CORPUS) --renew -o $@
$(OUT)/zero-shot.run: $(OUT)/zero-shot-vectors
	$(DRTOOLS) search --vectors $< $(TEST) --renew -o $@
$(OUT)/mined.jsonl: $(OUT)/zero-shot-vectors
	$(DRTOOLS) mine-negatives --vectors $< --queries $(QUERIES) --qrels $(DATA)/qrels/train.tsv --ranks 1-100 --renew -o $@
$(OUT)/bm25.jsonl: $(OUT)/bm25-index
	$(DRTOOLS) mine-negatives --index $< --queries $(QUERIES) --qrels $(DATA)/qrels/train.tsv --ranks 1-100 --renew -o $@

$(OUT)/careful.jsonl: $(OUT)/zero-shot-vectors
	$(DRTOOLS) mine-negatives --vectors $< --queries $(QUERIES) --qrels $(DATA)/qrels/train.tsv --ranks 20-300 --absolute-margin 0.1 --draw random --renew -o $@

field = $(word $(2),$(subst :, ,$(1)))
define try
$(call tried,$(1)): $(OUT)/mined.jsonl $(OUT)/bm25.jsonl $(OUT)/careful.jsonl
	$(DRTOOLS) $($(call field,$(1),1)) $(common) --batch-queries $(call field,$(1),2) --learning-rate $(call field,$(1),3) --steps $(call field,$(1),4) --renew -o $$@
endef
$(foreach point,$(grid),$(eval $(call try,$(point))))
$(foreach recipe,$(RECIPES),$(OUT)/$(recipe)): $(OUT)/%: $(OUT)/mined.jsonl $(OUT)/bm25.jsonl
	$(DRTOOLS) $($*) $(common) --batch-queries $(BATCH) --learning-rate $(RATE) --steps $(STEPS) --evaluate-every-steps $(EVERY) --renew -o $@
$(OUT)/%-vectors: $(OUT)/%
	$(DRTOOLS) encode --model $< --corpus $(CORPUS) --max-document-tokens 256 --renew -o $@
$(OUT)/%.run: $(OUT)/%-vectors
	$(DRTOOLS) search --vectors $< $(TEST) --renew -o $@

$(OUT)/table.txt: $(OUT)/zero-shot.run $(foreach recipe,$(RECIPES),$(OUT)/$(recipe).run) $(OUT)/bm25-search.run
	$(DRTOOLS) eval --qrels $(DATA)/qrels/test.tsv --measures nDCG@10,RR@10,R@100 $^ > $@.new
	mv $@.new $@

# the query encoder of a start, tuned against the start's own vectors; what dev likes best of the rates is searched with
define adored
$(OUT)/adore-$(1)-$(2): $(OUT)/$(1)-vectors
	$(DRTOOLS) train-adore --model $(OUT)/$(1) --vectors $$< --queries $(QUERIES) --qrels $(DATA)/qrels/train.tsv --dev-qrels $(DATA)/qrels/dev.tsv --dev-measures RR@10,nDCG@10 \
		--max-query-tokens 64 --batch-queries 32 --learning-rate $(2) --steps $(ADORE_STEPS) --evaluate-every-steps 50 --precision fp32 $(ADORE_MORE) --renew -o $$@
endef
$(foreach start,$(STARTS),$(foreach rate,$(ADORE_RATES),$(eval $(call adored,$(start),$(rate)))))
$(OUT)/adore-%.run: $(foreach rate,$(ADORE_RATES),$(OUT)/adore-%-$(rate))
	best=$$(python3 -c 'import json, sys; print(max(sys.argv[1:], key=lambda run: json.load(open(run + "/manifest.json"))["best"]["value"]))' $^)
	echo "$$best"
	$(DRTOOLS) search --vectors $(OUT)/$*-vectors --model "$$best" --max-query-tokens 64 $(TEST) --depth 100 --renew -o $@
$(OUT)/adore-%.txt: $(OUT)/%.run $(OUT)/adore-%.run
	$(DRTOOLS) eval --qrels $(DATA)/qrels/test.tsv --measures RR@10,nDCG@10,R@100 $^ > $@.new
	mv $@.new $@
adore: $(STARTS:%=$(OUT)/adore-%.txt)
	@cat $^
	@for run in $(foreach start,$(STARTS),$(foreach rate,$(ADORE_RATES),$(OUT)/adore-$(start)-$(rate))); do python3 -c 'import json, sys; m = json.load(open(sys.argv[1] + "/manifest.json")); print("%-50s %4.1f min  best dev %.4f at step %d; dev %s" % (sys.argv[1], m["training_seconds"] / 60, m["best"]["value"], m["best"]["step"], [round(e["RR@10"], 4) for e in m["evaluations"]]))' $$run; done
