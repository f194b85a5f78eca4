# The public files of FGD: MS MARCO's documents, and its passages, on which the retriever of stage 1 and the teacher are trained.

include $(EXAMPLES)/msmarco.mk
ITEMS := passages documents dl19-documents
PAPER_RUN := table MSMARCO=$(MSMARCO)
PAPER_NOTE := Retriever and teacher start from roberta-base of the Hugging Face hub.
