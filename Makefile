# One virtual environment, .venv, made on first use and brought up to date by stamp files; every target works from any
# state of it. All paths are relative, so that the checkout may lie in a folder with spaces in its name.
PYTHON ?= python3
BIN := .venv/bin
DEMO := runs/phase_a/demo
SOURCE_DIRS := tools ai tests hatch_build.py
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-random test-fast test-cluster test-browser test-gpu contracts check bench bench-find bench-encode bench-film bench-shots reproduce release fuzz soak bench-scale bench-cluster soak-cluster clean

# A virtual environment belongs to one folder and one interpreter: one that was copied, moved, half made, or whose
# Python has gone is made anew.
MADE_BY := .venv/.made-by
$(shell [ "$$(cat $(MADE_BY) 2>/dev/null)" = "$(PYTHON) in $$(pwd)" ] \
  && $(BIN)/python -c 'import pip' >/dev/null 2>&1 || rm -f $(MADE_BY))
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check \
  $(shell [ -t 2 ] || echo --quiet) -c constraints.txt

help: ## this list
	@echo "vmaf-tune: make TARGET (PYTHON=... names the Python to use, 3.11 or newer)"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-20s %s\n", $$1, $$2 }'

$(MADE_BY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "vmaf-tune needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | tail -n 1);" \
	    "name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON)' comes without venv; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Making .venv with $$($(PYTHON) --version)."
	@rm -rf .venv && $(PYTHON) -m venv .venv
	@printf '%s in %s' "$(PYTHON)" "$$(pwd)" > $@

.venv/.demo: $(MADE_BY) pyproject.toml constraints.txt
	@[ -e $@ ] || { \
	  echo "Installing what training and reports need. What pip does not hold in its cache it downloads: about 0.8 GB of"; \
	  echo "packages, the largest PyTorch (0.2 GB in its CPU build) and ONNX Runtime (0.3 GB). Where the package index"; \
	  echo "serves PyTorch's CUDA build, as PyPI does on Linux, it is about 3 GB more; PIP_EXTRA_INDEX_URL may name PyTorch's"; \
	  echo "own index of CPU builds to avoid that."; \
	}
	@$(PIP_INSTALL) -e '.[train,report]'
	@touch $@

.venv/.test: .venv/.demo
	@[ -e $@ ] || echo "Installing what the tests need."
	@$(PIP_INSTALL) -e '.[dev]'
	@touch $@

.venv/.test-browser: .venv/.test
	@$(PIP_INSTALL) -e '.[dev,browser]'
	@touch $@

demo: .venv/.demo ## sweep five short clips, train on the result, judge it, report: a few minutes
	@echo "== 1. Sweep: encode and score (run it again and it goes on where it ended)"
	$(BIN)/vmaf-tune corpus --sweep tools/vmaf-tune/sweeps/demo.toml --out $(DEMO)
	@echo "== 2. Train on it, every source held out once"
	$(BIN)/vmaf-tune train --loso --corpus $(DEMO) --seeds 1 --runs-dir runs/demo
	@echo "== 3. Judge it: the gate must say hold (exit code 6), as it asks for nine sources and this is five"
	@set -x; $(BIN)/vmaf-tune ship fr_regressor_v2 --dry-run --runs-dir runs/demo; { code=$$?; set +x; } 2>/dev/null; \
	  [ $$code -eq 6 ] || { echo "the gate was to say hold, exit code 6, not $$code" >&2; exit 1; }
	@if grep -qs '"fr_regressor_v2"' model/tiny/registry.json; then \
	  echo "== 4. The shipped model on this sweep (its own corpus holds other cuts of some of these films)"; \
	  set -x; $(BIN)/vmaf-tune eval fr_regressor_v2 --corpus $(DEMO); \
	fi
	@echo "== 5. What training found; at its end the table of held-out sources"
	$(BIN)/vmaf-tune eval --runs-dir runs/demo
	@echo "== 6. All of it as one page"
	@run=$$(ls runs/demo/fr_regressor_v2/*/metrics.json | tail -n 1); \
	  set -x; $(BIN)/vmaf-tune report $(DEMO) --model-run "$${run%/metrics.json}"
	@echo "That was the demo. Next, your own clips: $(BIN)/vmaf-tune corpus FOLDER --dry-run"

# A module's tests stay in one process, because they share what was made for them. The longest modules come first, in
# the order of tests/conftest.py, not in that of their numbers of tests.
SUITE := $(BIN)/python -m pytest tests --ignore=tests/browser --ignore=tests/cluster --ignore=tests/gpu \
  --numprocesses=auto --maxprocesses=8 --dist=loadfile --no-loadscope-reorder
test: .venv/.test ## the test suite, except browser, cluster and GPU
	$(SUITE)

test-random: .venv/.test ## the test suite three times in random order; a failure names the seed that repeats it
	for round in 1 2 3; do $(SUITE) --random-order || exit 1; done

test-cluster: .venv/.test ## a Dask cluster of processes that are killed, stopped and starved: minutes
	$(BIN)/python -m pytest tests/cluster

# What trains for long, draws many pages or needs more than Python takes longer, though it starts no ffmpeg.
SLOW := browser faults cluster gpu report/test_report.py report/test_odd.py corpus/test_duplicates.py \
  training/test_fit_prior.py dev/test_plots.py dev/test_reproduce.py test_dependencies.py commands/test_train_eval.py
test-fast: .venv/.test ## the tests that start no ffmpeg: under a minute
	$(BIN)/python -m pytest -q -m "not real" -n auto --dist loadfile $(SLOW:%=--ignore tests/%)

test-browser: .venv/.test-browser ## the report page in a headless Chromium
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && apt-get update -q && apt-get install -q -y --no-install-recommends chromium; } || \
	  { echo "The browser tests need Debian's chromium: sudo apt-get install chromium" >&2; exit 1; }
	$(BIN)/python -m pytest tests/browser

test-gpu: .venv/.test ## training, onnxruntime, decoding and doctor on an NVIDIA GPU; leaves without one
	@why=$$($(BIN)/python -c 'from vmaftune.hardware.gpus import nvidia; n = nvidia(); print("" if n.gpus else n.problem or "none")'); \
	  if [ -n "$$why" ]; then echo "no NVIDIA GPU is here ($$why): nothing was tested"; \
	  else set -x; $(BIN)/python -m pytest tests/gpu; fi

fuzz: .venv/.test ## feed every reader 100,000 damaged files: about half an hour
	PYTHONPATH=tests/support $(BIN)/python tests/support/fuzz.py --count 100000

SECONDS := 3600
soak: .venv/.test ## kill, starve and damage small sweeps for an hour (SECONDS=), and count what was survived
	PYTHONPATH=tests/support $(BIN)/python tests/support/soak.py --seconds $(SECONDS)

soak-cluster: .venv/.test ## kill workers, client and scheduler of a cluster at random instants, twenty sweeps: half an hour
	PYTHONPATH=tests/support $(BIN)/python tests/support/storms.py --rounds 20

bench-scale: .venv/.demo ## time and memory of run folders of 1,000 to 100,000 cells; wants an idle machine
	$(BIN)/python tools/vmaf-tune/dev/bench_board.py
	$(BIN)/python tools/vmaf-tune/dev/bench_scale.py

bench-cluster: .venv/.test ## lanes against worker processes, a cell's cost, how far a cluster goes; wants an idle machine
	$(BIN)/python tools/vmaf-tune/dev/bench_cluster.py

contracts: .venv/.test ## keys, digests and shipped bytes are what they were: seconds
	$(BIN)/python -m pytest -q tests/contracts

check: .venv/.test ## lint, types, import contracts: under a minute
	$(BIN)/ruff check $(SOURCE_DIRS)
	$(BIN)/ruff format --check --quiet $(SOURCE_DIRS)
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.demo ## the sweep against a plain loop, batched training against plain training, ladders against the full grid; wants an idle machine
	$(BIN)/python tools/vmaf-tune/dev/bench_sweep.py
	$(BIN)/python ai/dev/bench_training.py
	$(BIN)/python tools/vmaf-tune/dev/bench_find.py
	$(BIN)/python tools/vmaf-tune/dev/bench_ladder.py

bench-find: .venv/.demo ## encodes for a target, against the rules of other tools: about a minute, on stored rows
	$(BIN)/python tools/vmaf-tune/dev/bench_find.py

bench-encode: .venv/.demo ## films by shots against one value, foretold against measured: minutes
	$(BIN)/python tools/vmaf-tune/dev/bench_encode.py --picture docs/img/encode_shots.png

bench-shots: .venv/.demo ## which rule finds the cuts of films that were marked by looking: a minute
	$(BIN)/python tools/vmaf-tune/dev/bench_shots.py

bench-film: .venv/.demo ## a film of two hours in 1080p, sampled and swept within little disk: minutes; Linux
	$(BIN)/python tools/vmaf-tune/dev/bench_film.py

reproduce: .venv/.demo ## train the shipped models again from the committed corpus, and compare their figures
	$(BIN)/python ai/dev/reproduce.py

release: .venv/.test ## build wheel and sources of a release into dist/, and check them
	@[ -n "$(REPOSITORY)" ] || echo "An index shows the README's pictures where their address is known:" \
	  "make release REPOSITORY=https://github.com/OWNER/vmaf-tune"
	rm -rf dist
	VMAF_TUNE_REPOSITORY="$(REPOSITORY)" $(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*
	$(BIN)/python -m pytest -q tests/test_wheel.py

clean: ## remove .venv, caches and the demo's results; other runs stay
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache $(DEMO) runs/demo
	find $(SOURCE_DIRS) -name __pycache__ -type d -prune -exec rm -rf {} +
