# make demo: installs, then trains a character language model and lets it write
# make test: installs, then formats, lints, type-checks and tests
# make benchmark: speed and memory beside every other LSTM that is installed, three workloads in 3 minutes

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test benchmark install clean

demo: install
	$(BIN)/python examples/char_lm.py

test: install
	$(BIN)/ruff format .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile

benchmark: install
	$(BIN)/python -m benchmarks.run --quick

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.13 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all]'
	touch $@

clean:
	rm -rf $(VENV)
