# SPAR: can a Lambda of transformers become like BM25 on a small budget? Three ways from all-MiniLM-L6-v2, each with the same minutes: the
# paper's loss on ranks; regression onto the vectors of make-lexical's encoder; regression for half of the minutes, then the paper's loss
# for the other half. Beside them that encoder itself. RBO with BM25, words shuffled, SPAR's own table, and two kinds of queries that BM25
# and an encoder without attention differ on: queries with words that no document has, and rare names (EntityQuestions' shape).

SPAR := $(OUT)/spar
SPAR_MINUTES ?= 60
SPAR_HALF = $(shell awk 'BEGIN { print $(SPAR_MINUTES) / 2 }')
SPAR_SENTENCES ?= 50000
SPAR_LAMBDAS := transformer regressed refined static-384 static-768
SPAR_SHORT := --learning-rate 2e-4 --batch-queries 256 --max-query-tokens 32 --max-document-tokens 128

$(SPAR)/scifact:
	mkdir -p $(SPAR)
	$(PYTHON) $(HERE)/make_collection.py unseen $(DATA)/scifact -o $@
$(SPAR)/names: | $(DDR)/docstrings
	mkdir -p $(SPAR)
	$(PYTHON) $(HERE)/make_collection.py names $(DDR)/docstrings --documents 20000 --queries 1000 --seed 1 -o $@

# set, minutes of regression, minutes on ranks, lambdas
spar_arms = $(MAKE) -f $(ROOT)/examples/spar/Makefile DRTOOLS=$(DRTOOLS) DATA=$(SPAR)/$(1) OUT=$(SPAR)/arms-$(1) SAMPLE="--count $(SPAR_SENTENCES)" \
	LEXICAL_FLAGS="$(SPAR_SHORT) --minutes $(2)" REGRESSION_FLAGS="$(SPAR_SHORT) --minutes $(3)" LAMBDAS="$(4)"
spar_whole = $(call spar_arms,$(1),$(SPAR_MINUTES),$(SPAR_MINUTES),transformer regressed static-384 static-768)
spar: $(SPAR)/scifact-done $(SPAR)/names-done
$(SPAR)/%-done: | $(SPAR)/%
	$(call spar_whole,$*) table likeness
	$(call spar_arms,$*-half,$(SPAR_HALF),$(SPAR_HALF),refined) table likeness
	for words in test unseen; do if [ -s $(SPAR)/$*/qrels/$$words.tsv ]; then \
	  $(DRTOOLS) eval --qrels $(SPAR)/$*/qrels/$$words.tsv --measures nDCG@10,RR@10,R@100 $(SPAR)/arms-$*/test/{bm25,base,lambda-*,spar-*}.run $(SPAR)/arms-$*-half/test/{lambda,spar}-refined.run | tee $(SPAR)/$*-$$words.txt; fi; done
	touch $@
$(SPAR)/%-half: | $(SPAR)/%
	ln -sfn $* $@
