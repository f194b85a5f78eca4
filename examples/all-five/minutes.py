"""Print how long each step took, by the manifests that the tools left, the first step first.

python minutes.py five/ddr/manifest.json five/adam/manifest.json
"""

import json
import sys
from pathlib import Path

made = {path: json.loads(Path(path).read_text()) for path in sys.argv[1:]}
for path, manifest in sorted(made.items(), key=lambda pair: pair[1]["created"]):
    name = path.removesuffix("/manifest.json").removesuffix(".manifest.json")
    print(f"{manifest['seconds'] / 60:6.1f} min  {manifest['tool']:<20} {name}")
