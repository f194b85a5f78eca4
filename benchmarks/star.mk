# STAR, its baselines and contrastive training from all-MiniLM-L6-v2, on a collection in BEIR form; a stopped run continues.
#
#   make -f benchmarks/star.mk DATA=path/to/wikipedia OUT=build/star/wikipedia
#   make -f benchmarks/star.mk DATA=... OUT=... tune          dev nDCG@10 of STAR at each learning rate of RATES
#
# Every recipe takes the same steps from the same start; RATE was chosen on dev by `tune`.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SECONDARY:

DRTOOLS ?= bin/drtools
MODEL ?= sentence-transformers/all-MiniLM-L6-v2
STEPS ?= 120
RATE ?= 5e-5
RATES ?= 2e-5 5e-5 1e-4
TUNE_STEPS ?= 60
RECIPES ?= in-batch random bm25 contrastive star ance
CORPUS := $(DATA)/corpus.jsonl.gz
QUERIES := $(DATA)/queries.jsonl.gz
TEST := --queries $(QUERIES) --only $(DATA)/qrels/test.tsv

common = --model $(MODEL) --corpus $(CORPUS) --queries $(QUERIES) --dev-qrels $(DATA)/qrels/dev.tsv --dev-documents 1000 --max-document-tokens 160
mined := --examples $(OUT)/mined.jsonl
in-batch := train-star --negatives in-batch $(mined)
random := train-star --negatives random $(mined)
bm25 := train-star --examples $(OUT)/bm25.jsonl
contrastive := train-contrastive $(mined)
star := train-star $(mined)
ance := train-star $(mined) --refresh-every-steps 40 --refresh-ranks 1-100

.PHONY: table tune
table: $(OUT)/table.txt
	@cat $<
	@for recipe in $(RECIPES); do python3 -c 'import json, sys; m = json.load(open(sys.argv[1])); print("%-12s %5.1f min  best dev %.4f at step %d" % (sys.argv[2], m["training_seconds"] / 60, m["best"]["value"], m["best"]["step"]))' $(OUT)/$$recipe/manifest.json $$recipe; done
tune: $(foreach rate,$(RATES),$(OUT)/tune-$(rate))
	@for rate in $(RATES); do python3 -c 'import json, sys; m = json.load(open(sys.argv[1])); print(sys.argv[2], [round(e["nDCG@10"], 4) for e in m["evaluations"]])' $(OUT)/tune-$$rate/manifest.json $$rate; done

$(OUT)/bm25-index:
	$(DRTOOLS) index --lucene $(CORPUS) --update -o $@
$(OUT)/bm25-search.run: $(OUT)/bm25-index
	$(DRTOOLS) search --index $< $(TEST) --update -o $@
$(OUT)/zero-shot-vectors:
	$(DRTOOLS) encode --model $(MODEL) --documents $(CORPUS) --update -o $@
$(OUT)/zero-shot.run: $(OUT)/zero-shot-vectors
	$(DRTOOLS) search --vectors $< $(TEST) --update -o $@
$(OUT)/mined.jsonl: $(OUT)/zero-shot-vectors
	$(DRTOOLS) mine-negatives --vectors $< --queries $(QUERIES) --qrels $(DATA)/qrels/train.tsv --ranks 1-100 --update -o $@
$(OUT)/bm25.jsonl: $(OUT)/bm25-index
	$(DRTOOLS) mine-negatives --index $< --queries $(QUERIES) --qrels $(DATA)/qrels/train.tsv --ranks 1-100 --update -o $@

$(OUT)/tune-%: $(OUT)/mined.jsonl
	$(DRTOOLS) $(star) $(common) --learning-rate $* --steps $(TUNE_STEPS) --evaluate-every-steps $(TUNE_STEPS) --update -o $@
$(foreach recipe,$(RECIPES),$(OUT)/$(recipe)): $(OUT)/%: $(OUT)/mined.jsonl $(OUT)/bm25.jsonl
	$(DRTOOLS) $($*) $(common) --learning-rate $(RATE) --steps $(STEPS) --evaluate-every-steps 30 --update -o $@
$(OUT)/%-vectors: $(OUT)/%
	$(DRTOOLS) encode --model $< --documents $(CORPUS) --max-document-tokens 256 --update -o $@
$(OUT)/%.run: $(OUT)/%-vectors
	$(DRTOOLS) search --vectors $< $(TEST) --update -o $@

$(OUT)/table.txt: $(OUT)/zero-shot.run $(foreach recipe,$(RECIPES),$(OUT)/$(recipe).run) $(OUT)/bm25-search.run
	$(DRTOOLS) eval --qrels $(DATA)/qrels/test.tsv --measures nDCG@10,RR@10,R@100 $^ > $@.new
	mv $@.new $@
