"""What the README shows can be run."""

import re
import runpy
from pathlib import Path

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()


def test_python_blocks_run_in_order(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) >= 2
    (tmp_path / "readme.py").write_text("\n".join(blocks))
    names = runpy.run_path(str(tmp_path / "readme.py"))
    assert names["logits"].shape == (8, 100, 5)
    assert names["outputs"].shape == (8, 100, 32)
    assert names["logits_so_far"].shape == (8, 10)
    assert (names["state"].shape, names["rising"].shape) == ((8, 2, 32), (8, 100, 32))
    parts = names["outputs_in_parts"].addressable_shards
    assert [part.data.shape for part in parts] == [(8, 50, 32)] * 2


def test_every_file_it_names_is_there():
    root = Path(__file__).resolve().parents[1]
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    tree = re.search(r"```\nconfigs/.*?```", README, flags=re.DOTALL).group().splitlines()[1:-1]
    folder, files = "", []
    for line in tree:
        names = re.findall(r"^\s*((?:\S+(?:\.py|/) ?)+)", line)[0].split()
        folder = names[0] if not line.startswith(" ") else folder
        files += names if not line.startswith(" ") else [folder + name for name in names]
    assert len(files) > 10
    assert [name for name in links + files if not (root / name).exists()] == []
