"""Collections of others as a folder in BEIR's form: native files, layouts, ir_datasets, the Hugging Face hub."""
