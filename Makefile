# Every chore of the project. `make` alone lists them.
PYTHON ?= python3
PROMPT ?= a large red circle on a blue background
PORT ?= 8000
ONCE ?=
MINUTES ?= 20
SEED ?=
BIN := .venv/bin
# Two processes share the cores in training: waiting threads sleep, and freed memory is kept.
LEAN := OMP_WAIT_POLICY=passive MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592

# The tests of several files run at once, each in a process that computes on one core.
SHARED := OMP_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help run test hostile faults soak check format bench house-image-score house-image-train house-avatar-score house-avatar-train \
	house-speech-score house-speech-train env clean

help: ## list the chores
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-20s %s\n", $$1, $$2}'

run: .venv/.local ## start everything on this machine and draw PROMPT="…" (ONCE=1 ends after it, PORT=8000)
	@exec $(BIN)/python -m services.local --prompt "$(PROMPT)" --port $(PORT) $(if $(ONCE),--once)

test: .venv/.test check ## lint, types, import contracts and all tests that need no GPU
	@$(SHARED) $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --ignore tests/faults
	@$(BIN)/python -m pytest $(addprefix tests/faults/test_,coordinators.py gateways.py judge.py mutants.py proxy.py slopes.py)  # alone: their leases are short

hostile: .venv/.test ## the tests of bad input, counted by group
	@$(BIN)/python -m pytest -q -m hostile

faults: .venv/.test ## break everything, often, and write what came of it into docs/faults.md
	@rm -f build/faults.json
	@FAULTS=whole FAULTS_REPORT=build/faults.json $(BIN)/python -m pytest -q tests/faults
	@$(BIN)/python -m tests.faults.figures build/faults.json > docs/faults.md

soak: .venv/.test ## break everything by chance for MINUTES=20 while people work, and print what grows (SEED=… for the same again)
	@$(BIN)/python -m tests.faults.soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

check: .venv/.test ## lint, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.test ## put the code into shape
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: .venv/.bench ## the figures of the README, side by side with others in one run
	@$(BIN)/python -m benchmarks

house-image-score: .venv/.local ## how well the house image model follows held-out prompts
	@$(BIN)/python -m workers.image.house.score

house-image-train: .venv/.local ## train the house image model from nothing
	@$(BIN)/python -m workers.image.house.train

house-avatar-score: .venv/.local ## how true the house avatar model is, and whether it does what it is asked
	@$(BIN)/python -m workers.avatar.house.score

house-avatar-train: .venv/.local ## train the house avatar model from nothing: reader, model, attributes
	@$(LEAN) $(BIN)/python -m workers.avatar.house.reader
	@$(LEAN) $(BIN)/python -m workers.avatar.house.train
	@$(BIN)/python -m workers.avatar.house.attributes

house-speech-score: .venv/.local ## how many words the house ear gets wrong
	@$(BIN)/python -m workers.speech.house.score

house-speech-train: .venv/.local ## train the house ear from nothing
	@OMP_NUM_THREADS=1 $(LEAN) $(BIN)/python -m workers.speech.house.train

env: ## write .env with random secrets for docker-compose.yml
	@$(PYTHON) deploy/new_env.py

clean: ## remove the environment and the local data (not ./out)
	rm -rf .venv .atelier

# The CPU build of PyTorch first and exactly: a range would fetch gigabytes of CUDA.
.venv/.torch:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed"; exit 1; }
	$(PYTHON) -m venv .venv || { echo "python3-venv is needed (Debian: apt install python3-venv)"; exit 1; }
	$(BIN)/pip install -q --disable-pip-version-check torch==2.13.0
	@touch $@

.venv/.local: .venv/.torch pyproject.toml
	$(BIN)/pip install -q --disable-pip-version-check -e '.[local]'
	@touch $@

.venv/.test: .venv/.local
	$(BIN)/pip install -q --disable-pip-version-check -e '.[test]'
	@touch $@

.venv/.bench: .venv/.local
	$(BIN)/pip install -q --disable-pip-version-check -e '.[bench]'
	@touch $@
