# Each target sets up what it needs first. `make test ARGS="-k badge"` runs some of the tests.
PYTHON ?= python3
VENV ?= .venv
# An index to take torch and torchvision from, such as that of the builds for machines without GPU.
TORCH_INDEX ?=
BENCHMARKS := $(sort $(wildcard tests/benchmarks/[a-z]*.py))

PYTEST := $(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
SPECIAL := slow or faults or slurm or browser or gpu
ARGS ?=

.PHONY: demo test test-all lint bench wheels gpu clean

demo: $(VENV)/installed
	$(VENV)/bin/fm-al -m experiment=demo

test: $(VENV)/installed
	$(PYTEST) -m 'not ($(SPECIAL))' $(ARGS)
	@echo 'Left out: long runs, kills, SLURM, browser, GPU. make test-all runs all of them.'

test-all: $(VENV)/installed
	$(PYTEST) $(ARGS)

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports
	$(VENV)/bin/mypy

bench: $(VENV)/installed
	@for benchmark in $(BENCHMARKS:.py=); do \
		$(VENV)/bin/python -m $$(echo $$benchmark | tr / .) || exit 1; \
	done

# For a machine with a GPU and without a network: docs/gpu.md.
wheels: $(VENV)/installed
	$(VENV)/bin/python launchers/wheels.py $(if $(PYTHON_VERSION),--python-version $(PYTHON_VERSION)) $(ARGS)

# With the packages that are there, or in wheels/: no environment is made.
gpu:
	$(PYTHON) launchers/gpu.py $(ARGS)

$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(VENV)/bin/pip install torch torchvision --index-url $(TORCH_INDEX))
	$(VENV)/bin/pip install --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
