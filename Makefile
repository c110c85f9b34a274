# make run       set up everything and run the demonstration
# make test      set up what is missing, check style and types, run the tests
# make test-all  the same, with the tests that take longest: workers on Ray, the tutorial in an installed wheel
# make setup     only set up; JUDGE=none leaves out the 0.4 GB judge
#
# PYTHON=python3.12 make ... chooses another Python for a new environment. Without make: see README.md.

PYTHON ?= python3

.PHONY: setup run test test-all

setup:
	@$(PYTHON) scripts/setup.py $(if $(JUDGE),--judge $(JUDGE))

run: setup
	.venv/bin/s3local run data/support_desk --rows 600

test test-all: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal $(if $(filter test,$@),-m "not slow")
