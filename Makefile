# Everything a newcomer needs; `make` alone lists it. VENV and PYTHON may be given: make test PYTHON=python3.12
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Installed again whenever what is installed, or the interpreter, changes: by content, since a clone has new dates.
KEY := $(shell { cat pyproject.toml; $(PYTHON) --version; } | cksum | tr -d ' ')
STAMP := $(VENV)/.installed-$(KEY)
LOWEST := $(VENV)-lowest
LOWEST_STAMP := $(LOWEST)/.installed-$(KEY)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-campaign test-lowest lint format configs setup-ffcv ffcv-libraries test-ffcv setup-dali setup-cluster setup-browser setup-fashion-mnist clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## install into .venv (downloads torch: several GB on Linux)

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "mixmo-fast needs Python 3.11 or newer; found $$($(PYTHON) --version). Try: make setup PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@rm -f $(VENV)/.installed-*
	@touch $@

demo: setup ## convert, train and evaluate on handwritten digits (about a minute)
	$(BIN)/mixmo-fast convert digits
	$(BIN)/mixmo-fast train configs/quickstart.yaml
	$(BIN)/mixmo-fast evaluate configs/quickstart.yaml --checkpoint last

# Two processes of one thread each are faster than one process of two.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder
test: setup ## run the tests
	$(PYTEST) -m "not campaign"

test-campaign: setup ## run the long tests: processes killed at random, whole benchmarks, several ranks
	$(PYTEST) -m campaign

test-lowest: BIN := $(LOWEST)/bin
test-lowest: $(LOWEST_STAMP) ## run the tests but for the slow ones, with the lowest versions that pyproject.toml allows
	$(PYTEST) -m "not campaign and not slow"

# By uv, since pip chooses the newest versions alone; and some of the lowest have no wheels for a newer Python.
$(LOWEST_STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
	  echo "the lowest versions are for Python 3.11; found $$($(PYTHON) --version). Try: make test-lowest PYTHON=python3.11" >&2; exit 2; }
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --editable '.[test]'
	@touch $@

lint: setup ## check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## mend style and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

configs: setup ## write the published configurations from their table
	$(BIN)/python -m mixmo_fast.config.paper

# $(call need,TEST,what needs it,PACKAGES,another way): nothing where the test is true. Otherwise root has apt-get install
# the packages, and anybody else is told how to.
need = @{ $(1); } >/dev/null 2>&1 || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(3) >/dev/null; \
	  else echo "$(strip $(2)): sudo apt-get install $(3), or $(strip $(4))" >&2; exit 2; fi; }

setup-ffcv: ffcv-libraries setup ## install ffcv, which compiles against libturbojpeg and OpenCV
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[ffcv]'

ffcv-libraries: # before anything is downloaded
	$(call need,pkg-config --exists libturbojpeg opencv4 && command -v $${CXX:-g++},\
	ffcv compiles against libturbojpeg and OpenCV,libturbojpeg0-dev libopencv-dev pkg-config g++,\
	conda install -c conda-forge libjpeg-turbo opencv pkg-config compilers)

test-ffcv: setup-ffcv ## run the tests that need ffcv
	$(BIN)/python -m pytest -m ffcv

setup-dali: setup ## install DALI (Linux; about 1 GB)
	@[ "$$(uname -s)" = Linux ] || { echo "NVIDIA publishes DALI for Linux alone (on Windows: in WSL)" >&2; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dali]'

setup-cluster: setup ## install Ray, to reproduce on a cluster
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cluster]'

BROWSERS := chromium-headless-shell chromium chromium-browser google-chrome
setup-browser: ## install a headless Chromium, for the tests of report pages
	$(call need,for name in $(BROWSERS); do command -v $$name && exit; done; false,\
	tests of report pages open them in a browser,chromium-headless-shell,Chromium or Chrome from elsewhere)

FASHION_MNIST := $${MIXMO_FASHION_MNIST:-/usr/share/datasets/fashion-mnist}
setup-fashion-mnist: ## install Fashion-MNIST's files, for the tests on real images
	$(call need,[ -f "$(FASHION_MNIST)/t10k-images-idx3-ubyte.gz" ],\
	tests on real images read Fashion-MNIST,dataset-fashion-mnist,name a folder of its four files in MIXMO_FASHION_MNIST)

clean: ## remove the environment and caches; data and runs stay
	rm -rf $(VENV) $(LOWEST) build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
