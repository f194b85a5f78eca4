# `make paper`: fetches the public files of a paper's chain where a tool can, names those that are missing, and runs the chain with the
# paper's settings. `make paper-files` prints the table of the files. PUBLIC is the folder in which they are looked for and written.
#
# An example's paper.mk sets ITEMS; for each item title, files, page, size (of what is downloaded) and license, and fetch, the command that
# writes it, if there is one (else fetched, how they get there, if not by hand); PAPER_RUN, the goals and settings of the chain; and PAPER_NOTE, what else the table says.

comma := ,
define newline


endef
lacking = $(strip $(foreach file,$(files.$(1)),$(if $(wildcard $(file)),,$(file))))
paper_make = +@$(MAKE) --no-print-directory -f $(firstword $(MAKEFILE_LIST))

.PHONY: paper paper-files paper-fetch paper-check
paper:
	$(paper_make) paper-fetch
	$(paper_make) paper-check
	$(paper_make) $(PAPER_RUN)

paper_line = $(if $(strip $(2)),printf '  %-8s %s\n' "$(1)" "$(subst ",\",$(strip $(2)))";)
paper-files:
	@$(foreach item,$(ITEMS),echo "$(title.$(item))"; $(call paper_line,page,$(page.$(item)))$(call paper_line,size,$(size.$(item)))\
		$(call paper_line,license,$(license.$(item)))$(call paper_line,files,$(files.$(item)))$(call paper_line,fetched,$(or $(fetch.$(item)),$(fetched.$(item)),by hand))) true
	@$(if $(PAPER_NOTE),echo "$(PAPER_NOTE)")

# a file that cannot be fetched is named below; what was fetched stays
paper-fetch:
	@true
	$(foreach item,$(ITEMS),$(if $(and $(fetch.$(item)),$(call lacking,$(item))),$(fetch.$(item)) || echo "$(item): not fetched" >&2$(newline)	))

paper-check:
	@$(foreach item,$(ITEMS),$(foreach file,$(call lacking,$(item)),\
		echo "missing: $(file) ($(title.$(item))$(if $(size.$(item)),$(comma) $(size.$(item)))): put it there, from $(page.$(item))" >&2;)) true
	@$(if $(strip $(foreach item,$(ITEMS),$(call lacking,$(item)))),exit 2)
