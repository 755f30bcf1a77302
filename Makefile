# make demo: set up, export the committed checkpoint, restore a rainy picture. make test: set up, lint, types, arrows, tests.
# make test-all: that, and what takes longer (docs/testing.md): test-oldest, test-newest and test-wheel are parts of it.
# make fuzz: damaged files of every kind for 10 minutes (tests/fuzz/README.md); SEED=7 KIND=onnx NUMBER=12 MINUTES=1
# make mutants: small faults, each of which some test must notice (docs/testing.md); ROOM=core NUMBER=20 SEED=7 JOBS=1
# make docs: the site of the documentation, with the reference of the Python interface: site/index.html.
# make test-oldest: the tests with the lowest versions that pyproject.toml promises; make test-newest: with the newest, on
# the newest Python, without PyTorch; TESTS="tests/core tests/cli". make test-wheel: wheel and sdist (docs/testing.md).
# make kill: kills commands at random moments, and compares what they leave with an unbroken run (docs/reliability.md).
# Another interpreter or PyTorch build: make demo PYTHON=python3.12 TORCH="torch==2.13.0 --index-url ..."

PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin
WORKERS ?= -n 2 --dist loadfile --no-loadscope-reorder
unexport PYTHONDONTWRITEBYTECODE  # images for containers set it; without bytecode each process compiles everything

.PHONY: demo test test-all test-oldest test-newest test-wheel mutants fuzz kill docs clean

demo: .venv/run.stamp
	$(BIN)/irsde-deploy export assets/derain_nafnet_w16.safetensors -o demo/derain.onnx --overwrite
	$(BIN)/python examples/before_after.py demo/derain.onnx assets/rain.png assets/clean.png -o demo/before_after.png
	@echo
	@echo "Next, in this shell:"
	@echo "  source $(BIN)/activate"
	@echo "  irsde-deploy run --engine demo/derain.onnx assets/rain.png -o demo/restored.png"

test: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest $(WORKERS) -m "not slow" $(COVERAGE)

# And what takes longer: everything in a random order, with the slow tests (the wheel's among them), mutants that are
# drawn anew each day, the documentation, and the oldest and newest versions.
test-all: test
	$(BIN)/python -m pytest $(WORKERS) -p randomly -p no:cacheprovider
	PYTHONPATH=tests $(BIN)/python -m mutants --jobs 2 --number 12 --seed $$(date +%j)
	$(MAKE) docs test-oldest test-newest

JOBS ?= 2
mutants: .venv/dev.stamp
	PYTHONPATH=tests $(BIN)/python -m mutants --jobs $(JOBS) $(foreach name,ROOM NUMBER SEED,$(if $($(name)),--$(shell echo $(name) | tr A-Z a-z) $($(name))))

kill: .venv/dev.stamp
	PYTHONPATH=tests $(BIN)/python tests/kill/kill.py

fuzz: .venv/dev.stamp
	PYTHONPATH=tests nice $(BIN)/python -m fuzz $(foreach name,SEED KIND NUMBER MINUTES,$(if $($(name)),--$(shell echo $(name) | tr A-Z a-z) $($(name))))

python = $(lastword python$(1) $(sort $(wildcard $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions/$(1).*/bin/python)))
OLDEST ?= $(call python,3.11)
NEWEST ?= $(call python,3.13)
UV := $(BIN)/uv pip install --quiet
TESTS ?= tests

test-oldest: .venv-oldest/stamp
	.venv-oldest/bin/python -m pytest $(WORKERS) -m "not slow" $(TESTS)

test-newest: .venv-newest/stamp
	PYTHONPATH=tests .venv-newest/bin/python -m pytest -p without_pytorch $(WORKERS) -m "not slow" $(TESTS)

test-wheel: .venv/dev.stamp
	$(BIN)/python -m pytest tests/package -m slow

.venv-oldest/stamp: .venv/dev.stamp tests/package/oldest.txt
	$(OLDEST) -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet --disable-pip-version-check --no-deps $(TORCH)
	$(UV) --python .venv-oldest/bin/python --resolution lowest-direct --constraint tests/package/oldest.txt \
		-e ".[cpu,openvino,train,evaluate,video,rtx,dev]"
	touch $@

.venv-newest/stamp: .venv/dev.stamp tests/package/without_pytorch.txt
	$(NEWEST) -m venv .venv-newest
	$(UV) --python .venv-newest/bin/python --override tests/package/without_pytorch.txt \
		-e ".[cpu,openvino,train,evaluate,video,rtx,vapoursynth,dev]"
	touch $@

docs: .venv-docs/stamp
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet

.venv-docs/stamp: pyproject.toml
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install --quiet --disable-pip-version-check -e ".[docs]"
	touch $@

.venv/run.stamp: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH) -e ".[cpu,export]"
	touch $@

.venv/dev.stamp: .venv/run.stamp
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[cpu,openvino,train,evaluate,video,rtx,vapoursynth,dev]"
	touch $@

clean:
	rm -rf .venv .venv-oldest .venv-newest .venv-docs demo site .test_cache .mypy_cache .pytest_cache \
		.ruff_cache .import_linter_cache .hypothesis
