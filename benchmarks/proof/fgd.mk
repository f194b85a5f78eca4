# FGD: what distillation of passages and sentences adds to contrast must grow with the length of the documents, and vanish where a
# document is one passage. The same questions and paragraphs of wikipedia in documents of 128, 256 and 512 tokens (all-MiniLM-L6-v2
# reads no more than 512). Arms pool the first token, as the paper does; FGD_POOLING=mean makes contrast and KL of the mean beside them.

FGD := $(OUT)/fgd
FGD_LENGTHS ?= 128 256 512
FGD_SEEDS ?= 1 2
FGD_ARMS ?= contrastive document fgd no-passages no-sentences rgat multi-vector

$(FGD_LENGTHS:%=$(FGD)/data-%): $(FGD)/data-%:
	mkdir -p $(FGD)
	$(PYTHON) $(HERE)/make_collection.py lengthened $(DATA)/wikipedia --tokens $* -o $@

# the teacher is ADAM's, which was trained on paragraphs of the same articles
fgd_arms = $(MAKE) -f $(ROOT)/examples/fgd/Makefile DRTOOLS=$(DRTOOLS) DATA=$(FGD)/data-$(1) OUT=$(FGD)/arms-$(1) TEACHER=$(ADAM)/teacher DEV= SEEDS="$(FGD_SEEDS)" ARMS="$(FGD_ARMS)" \
	DOCUMENT_TOKENS=512 START_BUDGET="--steps 150" BUDGET="--steps 300" POOL="--ranks 1-100 --negatives 20"
fgd: $(FGD_LENGTHS:%=fgd-%)
$(FGD_LENGTHS:%=fgd-%): fgd-%: | $(FGD)/data-% $(ADAM)/teacher
	$(call fgd_arms,$*) table
	$(PYTHON) $(HERE)/compare.py $(FGD)/arms-$*/test --qrels $(FGD)/data-$*/qrels/test.tsv --baseline contrastive --arms $(FGD_ARMS) --measures nDCG@10 RR@100 R@20 | tee $(FGD)/table-$*.md
