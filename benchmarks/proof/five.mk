# All five together on the renamed target of DDR's proof: a line for each method on top of the one before, from the same neutral start, with
# DDR's own modules and labels of the target's training questions for what comes after them.

FIVE := $(OUT)/five
five: | $(DDR)/s0 $(DDR)/pooled-renamed
	$(call ddr_arms,1) $(DDR)/arms-1/source-dam $(DDR)/arms-1/pooled-renamed/dam $(DDR)/arms-1/rem
	$(MAKE) -f $(ROOT)/examples/all-five/Makefile DRTOOLS=$(DRTOOLS) DATA=$(DDR)/pooled-renamed SOURCE=$(DATA)/wikipedia OUT=$(FIVE) MODEL=$(DDR)/s0 SOURCE_DEV= \
		SOURCE_DAM=$(DDR)/arms-1/source-dam DAM=$(DDR)/arms-1/pooled-renamed/dam REM=$(DDR)/arms-1/rem DISTILL="adam fgd" M=10
