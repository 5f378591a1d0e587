# make experiment   set up .venv, then run the default experiment (no network after the set-up)
# make test         set up .venv, then lint, types and all tests
# make lint         lint and types
# make audit        ask osv.dev about known vulnerabilities of what is installed in .venv
# make demo         try the trained model on a page of its own, at http://127.0.0.1:7860
# make diabetes     a table as sentences, from data to report, on five folds
# make tensorboard  curves and charts of all runs
# make checkpoint   rebuild the embedded checkpoint from its seed (about an hour on two CPU cores)

PYTHON ?= python3
BIN := .venv/bin
TEST_PROCESSES ?= 2

.PHONY: experiment test lint audit demo diabetes tensorboard checkpoint

experiment: .venv/.run
	$(BIN)/python train.py fit

# Several tests at a time, each with one thread: many wait for processes of their own.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist worksteal

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Of a package that the Python Package Index does not have (torch's CPU build) it would say nothing.
audit: .venv/.run .venv-audit/.ready
	.venv-audit/bin/pip-audit --strict --vulnerability-service osv --progress-spinner off \
		--path "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
		|| { echo "audit: see above for what is vulnerable; where osv.dev was not reached, nothing is known" >&2; exit 1; }

demo: .venv/.demo
	$(BIN)/python -m demo

diabetes: .venv/.examples
	$(BIN)/python examples/diabetes.py

tensorboard: .venv/.run
	$(BIN)/tensorboard --logdir results

checkpoint: .venv/.run
	$(BIN)/python assets/pretrain_tiny_qwen2.py

# Apart, so that it does not look at itself.
.venv-audit/.ready:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet 'pip-audit>=2.10'
	touch $@

# A stamp says that .venv is whole and not older than what it is made from.
.venv/.run: requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/.demo: .venv/.run
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	touch $@

.venv/.examples: .venv/.run
	$(BIN)/python -m pip install --quiet --editable '.[examples]'
	touch $@

.venv/.dev: .venv/.run
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@
