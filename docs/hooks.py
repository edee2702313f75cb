"""From notebooks to pages: MkDocs calls the functions `on_...`, and griffe, which reads the modules for the API, the class `Docments`.

Nothing is executed: a page shows the outputs that its notebook stores, and griffe reads the modules without importing them.
"""
import ast
import base64
import functools
import importlib.util
import io
import json
import re
import struct
import tokenize
from pathlib import Path

import griffe
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
PARTS = {"1_papers": "The papers", "2_study": "The study", "3_tools": "The tools"}
MATH = """
<script>MathJax = {tex: {inlineMath: [["\\\\(", "\\\\)"]], displayMath: [["\\\\[", "\\\\]"]]},
  options: {enableMenu: false, ignoreHtmlClass: ".*|", processHtmlClass: "arithmatex"}}</script>
<script async src="%sjavascripts/mathjax.js"></script>
"""


# ---- what there is ----

def chapters() -> list[str]:
    "The notebooks in the book's order, as `1_papers/01_problem`."
    return [f"{part}/{path.stem}" for part in PARTS for path in sorted((ROOT/"nbs"/part).glob("*.ipynb"))]


@functools.cache
def cells(chapter: str) -> list[dict]:
    return json.loads((ROOT/f"nbs/{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]


def source(cell: dict) -> str: return "".join(cell["source"])


def title(chapter: str) -> str: return source(cells(chapter)[0]).split("\n")[0].removeprefix("# ").replace("`", "")


@functools.cache
def module(chapter: str) -> str:
    "The module that a notebook writes, or nothing."
    return next(iter(re.findall(r"^#\| default_exp (\w+)", "\n".join(map(source, cells(chapter))), re.M)), "")


def modules() -> dict[str, str]:
    "Module -> its chapter."
    return {module(chapter): chapter for chapter in chapters() if module(chapter)}


@functools.cache
def members(name: str) -> dict[str, str]:
    "What a module says in `__all__`, and the public methods of its classes: the name in the module -> the whole name."
    tree = ast.parse((ROOT/f"srgan_study/{name}.py").read_text(encoding="utf-8"))
    public = next((ast.literal_eval(node.value) for node in tree.body
                   if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"), [])
    methods = [f"{node.name}.{method.name}" for node in tree.body if isinstance(node, ast.ClassDef) and node.name in public
               for method in node.body if isinstance(method, ast.FunctionDef) and not method.name.startswith("_")]
    return {short: f"srgan_study.{name}.{short}" for short in (*public, *methods)}


# ---- links from names in prose to the API ----

def imported(code: str) -> dict[str, str]:
    "What code imports from the package: name -> whole name."
    code = re.sub(r"^\s*[%!].*", "", code, flags=re.M)
    return {alias.asname or alias.name: f"srgan_study.{node.module.removeprefix('srgan_study').strip('.')}.{alias.name}"
            for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom) and node.module
            and (node.level or node.module.startswith("srgan_study.")) for alias in node.names}


@functools.cache
def names(chapter: str) -> dict[str, str]:
    """The names that a chapter can mean: what its module has, what it imports, `module.name`; and the names of
    other modules that only one of them has and that no ordinary word can be confused with."""
    found = {}
    for name in modules():
        for short, whole in members(name).items():
            if re.search(r"[a-z]_?[A-Z]|_", short): found[short] = "" if short in found else whole
    found |= {f"{name}.{short}": whole for name in modules() for short, whole in members(name).items()}
    everything = {whole for name in modules() for whole in members(name).values()}
    for cell in cells(chapter):
        if cell["cell_type"] != "code": continue
        for short, whole in imported(source(cell)).items():
            if whole in everything:
                found[short] = whole
                found |= {one.removeprefix(whole[:-len(short)]): one for one in everything if one.startswith(whole + ".")}
    return found | (members(module(chapter)) if module(chapter) else {})


def linked(text: str, chapter: str) -> str:
    "Markdown in which names of the package are links to the API; not in headings, links and fenced code."
    def link(match):
        whole = names(chapter).get(match[1].removesuffix("()"))
        return f"[`{match[1]}`][{whole}]" if whole else match[0]
    lines, code = [], False
    for line in text.split("\n"):
        if line.lstrip().startswith("```"): code = not code
        plain = code or line.startswith(("#", "    "))
        lines.append(line if plain else re.sub(r"(?<![\[`])`([A-Za-z_][\w.]*(?:\(\))?)`(?![\]`])", link, line))
    return "\n".join(lines)


# ---- from a notebook to a page ----

def fenced(text: str, header: str) -> str:
    fence = "`"*max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {header}\n{text.rstrip()}\n{fence}"


def prose(cell: dict, chapter: str) -> str:
    text = re.sub(r"(\]\([\w./-]+)\.ipynb", r"\1.md", source(cell))
    text = re.sub(r"\]\((?:\.\./)+results/images/", f"]({'../'*chapter.count('/')}images/", text)
    text = re.sub(r"^((?![-*+|>\s]|\d+\.).*\S)\n(?=(?:[-*+]|1\.) )", r"\1\n\n", text, flags=re.M) # a list after a paragraph
    return linked(text, chapter)


def code(cell: dict) -> str:
    "The code of a cell without lines for nbdev; nothing if the cell is collapsed or hidden."
    hidden = cell["metadata"].get("jupyter", {}).get("source_hidden") or re.search(r"^#\|\s*hide", source(cell), re.M)
    return "" if hidden else re.sub(r"^\s*#\s*\|.*\n?", "", source(cell), flags=re.M).strip("\n")


def shown(output: dict, picture: str, caption: str) -> tuple[str, bytes]:
    "One output as Markdown, and the bytes of its picture."
    data = {kind: "".join(value) for kind, value in output.get("data", {}).items() if isinstance(value, (str, list))}
    if "image/png" in data:
        png = base64.b64decode(data["image/png"])
        width, height = struct.unpack(">II", png[16:24])
        return f"[![{caption}]({picture}){{ width={width} height={height} loading=lazy }}]({picture}){{ .figure }}", png
    if "text/html" in data: # a table of pandas: the site's style instead of its own
        html = re.sub(r"<style.*?</style>|<!--.*?-->", "", data["text/html"], flags=re.S)
        html = re.sub(r' (?:border|class|style)="[^"]*"', "", html).replace("$", "&#36;")
        return '<div class="output">' + re.sub(r"\n\s*", "\n", html).strip().replace("\n\n", "\n") + "</div>", b""
    if "text/markdown" in data: return data["text/markdown"], b""
    return fenced("".join(output.get("text", "")) or data.get("text/plain", ""), "{ .text .output }"), b""


def page(chapter: str) -> tuple[str, dict[str, bytes]]:
    "A notebook as Markdown, and its figures."
    parts, figures, caption = [], {}, title(chapter)
    for cell in cells(chapter):
        if cell["cell_type"] == "markdown":
            parts.append(prose(cell, chapter))
            said = re.findall(r"[^.\n]*\b[Ff]igures?\b[^.\n]*\.", source(cell))
            if said: caption = re.sub(r"[\[\]`*$\\]|\(\S*\)", "", said[-1]).strip()
        if cell["cell_type"] != "code": continue
        if code(cell): parts.append(fenced(code(cell), "python"))
        for output in cell["outputs"]:
            name = f"{Path(chapter).name}-{len(figures) + 1}.png"
            text, png = shown(output, f"figures/{name}", caption)
            parts.append(text)
            if png: figures[name] = png
    return "\n\n".join(parts) + "\n", figures


# ---- MkDocs ----

def on_config(config):
    entries = {part: [{f"{int(chapter.split('/')[1][:2])}. {title(chapter)}": f"{chapter}.md"}
                      for chapter in chapters() if chapter.startswith(part)] for part in PARTS}
    config.nav = [{"Start": "index.md"}, *({PARTS[part]: entries[part]} for part in PARTS),
                  {"API": [{name: f"api/{name}.md"} for name in modules()]}]
    return config


def on_files(files, config):
    add = lambda place, **what: files.append(File.generated(config, place, **what))
    for chapter in ["index", *chapters()]:
        text, figures = page(chapter)
        add(f"{chapter}.md", content=text)
        for name, png in figures.items(): add(f"{chapter.rpartition('/')[0]}/figures/{name}", content=png)
    for name, chapter in modules().items():
        add(f"api/{name}.md", content=f"# {name}\n\nThe chapter [{title(chapter)}](../{chapter}.md) builds and explains this module.\n\n"
                                      f"::: srgan_study.{name}\n")
    for path in sorted((ROOT/"results/images").glob("*.png")): add(f"images/{path.name}", abs_src_path=str(path))
    mathjax, = importlib.util.find_spec("mathjax").submodule_search_locations
    add("javascripts/mathjax.js", abs_src_path=f"{mathjax}/static/mathjax/es5/tex-svg.js")
    return files


def on_page_content(html, page, **_):
    return html + MATH % ("../"*page.url.count("/")) if 'class="arithmatex"' in html else html


# ---- griffe ----

@functools.cache
def comments(path: Path) -> dict[int, str]:
    "Line number -> the comment in this line."
    lines = io.StringIO(path.read_text(encoding="utf-8")).readline
    return {token.start[0]: token.string.lstrip("# ") for token in tokenize.generate_tokens(lines) if token.type == tokenize.COMMENT}


class Docments(griffe.Extension):
    "Descriptions of parameters, fields and results are comments in their lines, or the help of a command's option."

    def on_instance(self, *, obj, **_):
        "Names in a docstring become links; what has no docstring is shown, too, if it is a function, a class or a module's constant."
        if obj.docstring: obj.docstring.value = linked(obj.docstring.value, modules().get(obj.module.name, "index"))
        elif not obj.is_attribute or obj.parent.is_module: obj.docstring = griffe.Docstring("", parent=obj, lineno=obj.lineno)

    def on_function_instance(self, *, node, func, **_):
        said, arguments = comments(func.filepath), node.args
        every = [*arguments.posonlyargs, *arguments.args, arguments.vararg, *arguments.kwonlyargs, arguments.kwarg]
        defaults = dict(zip(reversed([*arguments.posonlyargs, *arguments.args]), reversed(arguments.defaults)))
        defaults |= dict(zip(arguments.kwonlyargs, arguments.kw_defaults))
        at = {(defaults.get(one) or one).end_lineno: one for one in every if one} # the last one of a line
        result = node.returns.end_lineno if node.returns else None
        text = {one.arg: said[line] for line, one in at.items() if line in said and line != result}
        text |= {one.arg: ast.literal_eval(word.value) for one in every if one and one.annotation for call in ast.walk(one.annotation)
                 if isinstance(call, ast.Call) for word in call.keywords if word.arg == "help"}
        self.describe(func, griffe.DocstringSectionParameters, griffe.DocstringParameter,
                      [(name, func.parameters[name].annotation, about) for name, about in text.items()])
        if result in said: self.describe(func, griffe.DocstringSectionReturns, griffe.DocstringReturn, [("", func.returns, said[result])])

    def on_class_members(self, *, node, cls, **_):
        said = comments(cls.filepath)
        fields = [one for one in node.body if isinstance(one, ast.AnnAssign)]
        rows = [(one.target.id, cls.members[one.target.id].annotation, said.get(one.end_lineno, "")) for one in fields]
        if any(about for *_, about in rows): self.describe(cls, griffe.DocstringSectionAttributes, griffe.DocstringAttribute, rows)

    def describe(self, obj, section, row, rows):
        "Append a table to a docstring."
        if not rows: return
        chapter = modules().get(obj.module.name, "index")
        obj.docstring.parsed.append(section([row(name=name, annotation=annotation, description=linked(about, chapter))
                                             for name, annotation, about in rows]))
