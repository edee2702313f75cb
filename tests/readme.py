"Print README.md: nbs/index.ipynb, executed, with its links seen from the project's root."
import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

NOTEBOOKS = Path(__file__).resolve().parent.parent/"nbs"


def readme() -> str:
    "The README's text."
    book = nbformat.read(NOTEBOOKS/"index.ipynb", as_version=4)
    NotebookClient(book, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOKS)}}).execute()
    exporter = MarkdownExporter(exclude_input=True)
    text, _ = exporter.from_notebook_node(book)
    text = re.sub(r"\]\(\.\./", "](", text)                # ../results/... is results/... from the root
    text = re.sub(r"\]\(([\w/]+\.ipynb)", r"](nbs/\1", text) # a notebook next to index.ipynb, or in one of the parts
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


if __name__ == "__main__": print(readme(), end="")
