"""What a tool pays before it works: imports, and the walks of Python's garbage collector."""

import json
import subprocess
import sys

import pytest

# libraries that nothing in the answer to a question needs, and that others import if they can
NOT_FOR_A_QUESTION = {
    *("datasets", "jnius", "matplotlib", "pandas", "peft", "pyarrow", "pyserini"),
    *("sentence_transformers", "sklearn", "tensorflow", "torchvision"),
}
MEASURED = """
import atexit, gc, json, sys

collections = []
gc.callbacks.append(lambda phase, about: phase == "stop" and collections.append(about["generation"]))
# registered first, so that it runs last
@atexit.register
def say():
    modules = {name.split(".")[0] for name in sys.modules}
    print(json.dumps([sorted(modules), collections, gc.get_freeze_count()]))

from drtools.cli.main import main

main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_question_imports_what_it_needs_and_the_collector_hardly_runs(toy, encoder_folder, drtools, environment):
    vectors, index = toy.folder / "vectors", toy.folder / "index"
    assert drtools("encode", "--model", encoder_folder, "--corpus", toy.corpus, "-o", vectors).status == 0
    assert drtools("index", "--vectors", vectors, "--factory", "Flat", "-o", index).status == 0
    words = ["search", "--index", str(index), "--depth", "3", "hello"]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *words], capture_output=True, text=True, env=environment, check=True
    )
    *answer, last = done.stdout.splitlines()
    modules, collections, frozen = json.loads(last)
    assert answer and {"torch", "transformers", "faiss"} <= set(modules)
    assert not NOT_FOR_A_QUESTION & set(modules)
    assert len(collections) < 100 and collections.count(2) <= 1  # 1,041 and 6 with the thresholds of Python
    assert frozen > 300_000  # not walked through at the exit
