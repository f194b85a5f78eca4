"""`python -m drtools TOOL ...`, as torchrun starts it."""

from drtools.cli.main import main

if __name__ == "__main__":
    main()
