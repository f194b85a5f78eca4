# DDR: does adapting a domain module without labels recover what a change of domain costs? The start (S0) is a body of four layers whose
# last two are initialized at random, then trained by masked language modelling on docstrings, which are neither source nor target: so
# that no arm starts from a retriever. The source is wikipedia with its questions. Targets: five collections pooled, and the same with
# its 2,000 most frequent content words renamed by a fixed permutation. The renamed target is a positive control: what its change of domain
# costs is known, since the target itself is the ceiling; DR must fall there, and DDR must recover with steps of adaptation.

DDR := $(OUT)/ddr
DDR_SEEDS ?= 1
DDR_START_EPOCHS ?= 3
DDR_DOCSTRINGS ?= 100000
DDR_TARGETS := $(DDR)/pooled $(DDR)/pooled-renamed
DDR_MEASURES := nDCG@10,R@100,R@1000

$(DDR)/docstrings:
	mkdir -p $(DDR)
	$(PYTHON) $(ROOT)/examples/quickstart/docstrings.py --documents $(DDR_DOCSTRINGS) -o $@
$(DDR)/body:
	mkdir -p $(DDR)
	$(PYTHON) $(HERE)/make_body.py $(MODEL) --layers 4 --redraw-top 2 --seed 1 -o $@
$(DDR)/s0: | $(DDR)/docstrings $(DDR)/body
	$(DRTOOLS) mlm-adapt --model $(DDR)/body --corpus $(DDR)/docstrings/corpus.jsonl.gz --batch-documents 128 --crop-tokens 128 --crops windows --learning-rate 2e-4 --epochs $(DDR_START_EPOCHS) -o $@
$(DDR)/pooled:
	mkdir -p $(DDR)
	$(PYTHON) $(ROOT)/benchmarks/pooled.py $(foreach name,nfcorpus scifact covid-papers cranfield reddit,$(DATA)/$(name)) -o $@.new
	mv $@.new $@
$(DDR)/pooled-renamed: | $(DDR)/pooled
	$(PYTHON) $(HERE)/make_collection.py renamed $(DDR)/pooled --words 2000 --seed 1 -o $@

# the example's Makefile makes the arms, once for each seed
ddr_arms = $(MAKE) -f $(ROOT)/examples/ddr/Makefile DRTOOLS=$(DRTOOLS) DATA_SOURCE=$(DATA)/wikipedia DATA_TARGETS="$(DDR_TARGETS)" OUT=$(DDR)/arms-$(1) MODEL=$(DDR)/s0 MORE="--seed $(1)" \
	LEARN="--batch-queries 64 --steps 400 --hard-negatives 1" DR_RATE=5e-5 SOURCE_ADAPT="--learning-rate 1e-4 --batch-documents 64 --crop-tokens 128 --steps 1000 --warmup-steps 100" \
	TARGET_ADAPT="--learning-rate 1e-4 --batch-documents 64 --crop-tokens 128 --steps 3000 --warmup-steps 100" MEASURES=$(DDR_MEASURES) FIRST="bm25 zero-shot" SNAPSHOTS="--snapshot-minutes 2,5,10,20"
ddr: | $(DDR)/s0 $(DDR_TARGETS)
	$(foreach seed,$(DDR_SEEDS),$(call ddr_arms,$(seed)) tables && )true
	$(foreach seed,$(DDR_SEEDS),$(call ddr_arms,$(seed)) ablations && )true
	$(call ddr_arms,1) curve
