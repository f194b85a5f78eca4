"""One file a tool: its docstring is its help, the signature of its `main` its flags, its body composition only."""
