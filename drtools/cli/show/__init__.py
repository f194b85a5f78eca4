"""What is there, told to a person: artefacts, where they came from, this machine."""
