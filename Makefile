# make up: everything, from a fresh machine to a served page. make test: every test. make down: nothing left behind.
SHELL := /bin/bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: up down test lint bench docs bootstrap clean

up:
	@lab/up

bootstrap:
	@lab/bootstrap

down:
	@[ ! -e .venv/pins ] || .venv/bin/python -m lab stop

test: bootstrap
	@tests/run $(SCENARIO)

lint: bootstrap
	@tests/lint

# The numbers, in bench/results, and the page that shows them; SMOKE=1 for a part of it, in less than ten minutes.
bench: bootstrap
	@bench/run

# The reference of every role, module, plugin and filter, as pages of reStructuredText.
docs: bootstrap
	@rm -rf .cache/docs && mkdir -p .cache/docs
	@antsibull-docs collection --use-current --squash-hierarchy --dest-dir .cache/docs c50k.stack
	@echo "$(CURDIR)/.cache/docs/index.rst"

clean: down
	@[ ! -e .venv/pins ] || .venv/bin/python -m lab.images remove
	rm -rf .venv .cache
