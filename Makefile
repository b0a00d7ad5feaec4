# Thin: each target is a plain command that the README gives too.
PYTHON ?= python3
PROFILE ?= report
BIN := .venv/bin

.PHONY: demo report test lint dry-run clean address

demo: .venv/report.stamp # both studies in minutes, into outputs/demo
	$(BIN)/python -m mmutils.reproduce --profile demo

report: .venv/report.stamp
	$(BIN)/python -m mmutils.reproduce --profile $(PROFILE)

test: lint
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile

lint: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

dry-run: .venv/report.stamp # of the paper profile, on a CPU
	$(BIN)/python tests/dry_run.py

clean:
	rm -rf .venv outputs .pytest_cache .ruff_cache

address: # of a fork, in badges and setup cells: make address REPOSITORY=owner/name
	@echo "$(REPOSITORY)" | grep -Eq '^[^/ ]+/[^/ ]+$$' || { echo "Give the repository: make address REPOSITORY=owner/name"; exit 1; }
	sed -i.old -E 's#(/github/|github\.com/)[^/"]+/[^/"]+(/blob/main/[a-zA-Z_/]+\.ipynb|\.git mmutils-repository)#\1$(REPOSITORY)\2#' */*.ipynb report/notebooks/*.ipynb
	@rm -f */*.ipynb.old report/notebooks/*.ipynb.old

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/report.stamp: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet -r requirements.txt
	@touch $@

.venv/test.stamp: requirements.txt requirements-test.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet -r requirements-test.txt
	@touch $@ .venv/report.stamp
