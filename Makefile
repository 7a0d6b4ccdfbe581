# make up: everything, from a fresh machine to a served page. make test: every test. make down: nothing left behind.
SHELL := /bin/bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: up down test lint bootstrap clean

up:
	@lab/up

bootstrap:
	@lab/bootstrap

down:
	@[ ! -x .venv/bin/python ] || .venv/bin/python -m lab stop

test: bootstrap
	@tests/run $(SCENARIO)

lint: bootstrap
	@tests/lint

clean: down
	@[ ! -x .venv/bin/python ] || .venv/bin/python -m lab.images remove
	rm -rf .venv .cache
