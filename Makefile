# Thin: each target is a plain command that the README gives too.
PYTHON ?= python3
PROFILE ?= demo
OUT ?= report
BIN := .venv/bin

.PHONY: report test lint clean

report: .venv/report.stamp
	$(BIN)/python -m mmutils.reproduce --profile $(PROFILE) --out $(OUT)

test: lint
	$(BIN)/python -m pytest

lint: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf .venv outputs .pytest_cache .ruff_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/report.stamp: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet -r requirements.txt
	@touch $@

.venv/test.stamp: requirements.txt requirements-test.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet -r requirements-test.txt
	@touch $@ .venv/report.stamp
