# STAR and ADORE: STAR beside its baselines, ADORE from each start, static negatives beside live ones (overlap, Figure 4), metrics (Figure 5),
# exact pairwise errors over the whole corpus (Table 1, Figure 3), and what ANCE's refresh costs beside STAR and ADORE, as ratios of minutes
# of one run. Two collections: six collections pooled (17,000 documents), and 100,000 docstrings, whose questions are their first sentences.

STAR := $(OUT)/star
STAR_SETS ?= pooled docstrings
STAR_STEPS ?= 240
ADORE_STEPS ?= 400

$(STAR)/pooled:
	mkdir -p $(STAR)
	$(PYTHON) $(ROOT)/benchmarks/pooled.py $(foreach name,nfcorpus scifact wikipedia reddit covid-papers cranfield,$(DATA)/$(name)) -o $@.new
	mv $@.new $@
$(STAR)/docstrings: | $(DDR)/docstrings
	mkdir -p $(STAR)
	ln -sfn $(abspath $(DDR)/docstrings) $@

star_arms = $(MAKE) -f $(ROOT)/examples/star-adore/Makefile DRTOOLS=$(DRTOOLS) DATA=$(STAR)/$(1) OUT=$(STAR)/arms-$(1) DEV= RATE=5e-5 BATCH=32 STEPS=$(STAR_STEPS) \
	DOCUMENT_TOKENS=128 ENCODE_DOCUMENT_TOKENS=128 ADORE_RATE=1e-5 ADORE_STEPS=$(ADORE_STEPS)
star: $(STAR_SETS:%=star-%)
$(STAR_SETS:%=star-%): star-%: | $(STAR)/%
	$(call star_arms,$*) baselines
	$(call star_arms,$*) starts
	$(call star_arms,$*) negatives
	$(call star_arms,$*) errors
	$(call star_arms,$*) metrics
	$(PYTHON) $(ROOT)/examples/all-five/minutes.py $(STAR)/arms-$*/{star,ance,adore-star}/manifest.json | tee $(STAR)/minutes-$*.txt
