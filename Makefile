# make run    set up everything and run the demonstration
# make test   set up what is missing, check style and types, run the tests
# make setup  only set up

.PHONY: setup run test

setup:
	@sh scripts/setup.sh

run: setup
	.venv/bin/s3local run data/support_desk --rows 600

test: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/python -m pytest
