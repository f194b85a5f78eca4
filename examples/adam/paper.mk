# The public files of ADAM: MS MARCO's passages. Teacher and start are trained here.

include $(EXAMPLES)/msmarco.mk
ITEMS := passages dl19-passages
PAPER_RUN := table ablation MSMARCO=$(MSMARCO)
PAPER_NOTE := Teacher and student start from bert-base-uncased of the Hugging Face hub.
