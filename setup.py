"Everything about the package stands in settings.ini; this file only hands it to setuptools."
from configparser import ConfigParser
from pathlib import Path

from setuptools import setup

here = Path(__file__).parent
settings = ConfigParser(delimiters=["="])
settings.read(here / "settings.ini", encoding="utf-8")
settings = settings["DEFAULT"]
extras = {key.removesuffix("_requirements"): settings[key].split()
          for key in settings if key.endswith("_requirements")}
zoo = settings["lib_path"] + ".zoo"

setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=settings["author"],
    author_email=settings["author_email"],
    url=settings["git_url"],
    keywords=settings["keywords"].split(),
    license="MIT",
    python_requires=">=" + settings["min_python"],
    # the weights that ship lie in results/weights, where the book's chapters find them; in a wheel they are a subpackage
    packages=[settings["lib_path"], zoo],
    package_dir={zoo: "results/weights"},
    package_data={zoo: ["*.safetensors"]},
    include_package_data=True,
    install_requires=settings["requirements"].split(),
    extras_require=extras,
    entry_points={"console_scripts": settings["console_scripts"].split()},
    zip_safe=False,
)
