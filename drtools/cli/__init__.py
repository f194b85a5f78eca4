"""The command line: flags, dispatch, messages, and what is shown to a person."""
