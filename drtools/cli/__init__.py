"""The command line: flags, dispatch, messages, and displays."""
