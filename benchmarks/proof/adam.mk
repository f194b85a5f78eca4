# ADAM: is distillation on dark examples better than on hard negatives alone, at equal steps and at equal tokens? Teacher and student
# read the same 128 tokens. The student is a body of three layers that was trained by contrast on the training questions that the
# arms do not use; the teacher, of six layers, is trained on them too. All arms start from the same student; no arm looks at dev.

ADAM := $(OUT)/adam
ADAM_DATA := $(ADAM)/data
ADAM_QUERIES ?= 1500
ADAM_TOKENS := --max-query-tokens 32 --max-document-tokens 128
ADAM_TEACHER_TOKENS := --max-query-tokens 30 --max-document-tokens 126
ADAM_TEXTS := --corpus $(ADAM_DATA)/corpus.jsonl.gz --queries $(ADAM_DATA)/queries.jsonl.gz

$(ADAM_DATA):
	$(PYTHON) $(HERE)/make_collection.py sample $(DATA)/wikipedia --queries $(ADAM_QUERIES) --seed 1 -o $@
$(ADAM)/body:
	$(PYTHON) $(HERE)/make_body.py $(MODEL) --layers 3 -o $@
$(ADAM)/bm25: | $(ADAM_DATA)
	$(DRTOOLS) index --corpus $(ADAM_DATA)/corpus.jsonl.gz -o $@
$(ADAM)/rest.jsonl: | $(ADAM)/bm25
	$(DRTOOLS) mine-negatives --index $(ADAM)/bm25 --queries $(ADAM_DATA)/queries.jsonl.gz --qrels $(ADAM_DATA)/qrels/rest.tsv --ranks 1-100 --negatives 30 --draw random -o $@
$(ADAM)/start: | $(ADAM)/rest.jsonl $(ADAM)/body
	$(DRTOOLS) train-contrastive --model $(ADAM)/body $(ADAM_TEXTS) --examples $(ADAM)/rest.jsonl $(ADAM_TOKENS) --batch-queries 64 --learning-rate 1e-4 --epochs 2 -o $@
$(ADAM)/teacher: | $(ADAM)/rest.jsonl
	$(DRTOOLS) train-ranker --model $(MODEL) $(ADAM_TEXTS) --examples $(ADAM)/rest.jsonl $(ADAM_TEACHER_TOKENS) --loss listwise --batch-queries 32 --negatives 7 --learning-rate 1e-4 --epochs 1 -o $@

# the example's Makefile makes the arms; what it is called with once is what it must be called with again
adam_arms = $(MAKE) -f $(ROOT)/examples/adam/Makefile DRTOOLS=$(DRTOOLS) DATA=$(ADAM_DATA) OUT=$(ADAM)/arms START=$(ADAM)/start TEACHER=$(ADAM)/teacher \
	DEV= M=10 POOL=20 BATCH=64 EPOCHS=2 RATE=5e-5 DOCUMENT_TOKENS=128 ENCODE_DOCUMENT_TOKENS=128 ENCODE_QUERY_TOKENS=32
ADAM_REST := rand-kd no-reinforced no-noisy no-dark no-pacing no-dark-pacing no-dark-pacing-supervised m-5 m-15 lambda-0.001 lambda-0.05 lambda-0.1 lambda-0.5
adam_runs = $(patsubst %,$(ADAM)/arms/test/%.run,$(1))
ADAM_ALL := start hard-kd adam hard-kd-tokens $(ADAM_REST)
adam_table = $(PYTHON) $(HERE)/compare.py $(ADAM)/arms/test --qrels $(ADAM_DATA)/qrels/test.tsv --baseline adam --arms $(ADAM_ALL)

# the arms that the claim is about first, one seed each; then their other seeds; then the ablations and sweeps
adam: | $(ADAM)/start $(ADAM)/teacher
	$(adam_arms) $(call adam_runs,start hard-kd-1 adam-1 hard-kd-tokens-1)
	$(adam_table)
	$(adam_arms) SEEDS="1 2 3" $(call adam_runs,$(foreach seed,2 3,hard-kd-$(seed) adam-$(seed) hard-kd-tokens-$(seed)))
	$(adam_table)
	$(adam_arms) $(call adam_runs,$(ADAM_REST:%=%-1)) $(ADAM)/arms/test-teacher.txt
	$(adam_arms) ARMS="hard-kd adam" $(ADAM)/arms/scores $(ADAM)/arms/agreement-1
	$(adam_table) | tee $(ADAM)/table.md
	cat $(ADAM)/arms/test-teacher.txt
adam-table:
	$(adam_table)
