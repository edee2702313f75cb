"""Run analysis notebooks again and compare: they read only results/ and weights, so the same cells must come out.

    python tests/results.py nbs/2_study/01_scores.ipynb ...          fails where a cell differs, and names it
    python tests/results.py --write nbs/2_study/01_scores.ipynb ...  keeps what came out
"""
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbdev.clean import clean_nb
from nbdev.config import get_config
from tqdm.auto import tqdm


def run(path: Path) -> nbformat.NotebookNode:
    "The notebook with new outputs, as `nbdev_clean` leaves them."
    book = nbformat.read(path, as_version=4)
    NotebookClient(book, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}).execute()
    for cell in book.cells: # what the kernel says of itself, such as a warning, is no result
        if "outputs" in cell: cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    clean_nb(book, allowed_cell_metadata_keys=get_config().allowed_cell_metadata_keys.split())
    return book


def main(arguments: list[str]) -> str:
    "What came out otherwise, a line for each cell."
    paths, different = [Path(a) for a in arguments if a != "--write"], []
    for path in tqdm(paths, unit="notebook"):
        was, now = nbformat.read(path, as_version=4), run(path)
        if "--write" in arguments: nbformat.write(now, path)
        else:
            different += [f"{path}, cell {number}: came out otherwise: {new.source.strip().splitlines()[0]}"
                          for number, (old, new) in enumerate(zip(was.cells, now.cells))
                          if old.get("outputs") != new.get("outputs")]
    return "\n".join(different)


if __name__ == "__main__": sys.exit(main(sys.argv[1:]) or 0)
