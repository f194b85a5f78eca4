# The public files of ADORE: those of STAR, whose chain it continues.

include $(EXAMPLES)/star/paper.mk
PAPER_RUN := starts MSMARCO=$(MSMARCO) $(if $(COLLECTION),COLLECTION=$(COLLECTION))
