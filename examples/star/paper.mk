# The public files of STAR and ADORE: MS MARCO's, of passages, or with COLLECTION=documents of both (its warm-up is that of the passages).

include $(EXAMPLES)/msmarco.mk
ITEMS := passages dl19-passages $(if $(filter documents,$(COLLECTION)),documents dl19-documents)
PAPER_RUN := table baselines MSMARCO=$(MSMARCO) $(if $(COLLECTION),COLLECTION=$(COLLECTION))
PAPER_NOTE := The first model is roberta-base of the Hugging Face hub.
