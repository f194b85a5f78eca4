"""Models as others publish them: read without running code, recognised by their tensors' names, written as folders."""
