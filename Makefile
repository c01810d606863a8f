# Two commands do everything on a fresh machine: `make demo` and `make test`.

PYTHON ?= python3
DEMO_ENV := .venv-demo
TEST_ENV := .venv
BUNDLE ?= bundles/landscape
GPU_ENGINES := tensorrt,tensorrt-rtx,onnxruntime-cuda
APT_PACKAGES := nginx libnginx-mod-rtmp chromium srt-tools

# Training. No environment is created: TRAIN_PYTHON is a Python that has PyTorch. Without DATA, a small generator is
# trained on footage made from nothing, on the CPU; with DATA, training is for an accelerator.
GENERATOR ?= $(if $(DATA),satellite,made-128)
RUN ?= runs/$(GENERATOR)
TRAIN_PYTHON ?= $(PYTHON)
TRAIN_CONFIG ?= training/configs/$(GENERATOR).toml
SHORT_SIDE = $(shell sed -n 's/^short_side *= *\([0-9]*\).*/\1/p' '$(TRAIN_CONFIG)' 2>/dev/null)
# Batches of 32, and fine-tuning on whole frames: about 8 minutes a stage on one H100, estimated from operation counts and
# not measured on a GPU. Pretraining stays on crops: the position task draws numbers for every pair of places on the CPU,
# which takes a second a step for 32 whole frames of 256 px. `make train ACCELERATOR=` uses the configuration unchanged.
MADE = $(filter made-128,$(GENERATOR))
ACCELERATOR ?= $(if $(MADE),,$(BATCHES))
BATCHES = pretrain.batch=32 pretrain.iterations=3000 \
  finetune.crop=0 finetune.batch=32 finetune.iterations=3000 polish.batch=16 polish.iterations=4000 \
  run.workers=$(shell nproc 2>/dev/null || echo 4) run.checkpoint_every=250 run.keep_every=1000 \
  run.evaluate_every=1000 run.sample_every=1000
TRAIN_OPTIONS = --data '$(RUN)/shards' --out '$(RUN)' $(addprefix --set ,$(ACCELERATOR) $(SET)) \
  $(if $(PERCEPTUAL),--perceptual '$(PERCEPTUAL)')
TRAIN_WORDS = $(if $(WORDS),--words '$(WORDS)')

.PHONY: help demo test gpu-check train check-python servers clean

help:
	@echo "make demo   install the light CPU set and put $(BUNDLE) on air for 35 s (http://127.0.0.1:8000, demo.mp4)"
	@echo "make test   install the development set; run format, lint, types and tests"
	@echo "make train  from nothing to a small bundle on the CPU: makes footage, then as below [RUN=$(RUN)] [FOOTAGE='--clips 8 ...']"
	@echo "make train  DATA=FOLDER [GENERATOR=satellite or TRAIN_CONFIG=FILE] [RUN=runs/satellite] [WORDS=...] [PERCEPTUAL=...] [SET='KEY=VALUE ...']:"
	@echo "            shard, pretrain, finetune, polish and export on an accelerator; the same command resumes where it was stopped"
	@echo "make gpu-check  on a machine with an NVIDIA GPU: which engines run, CUDA graphs, parity, latency; a diffusers pipeline (TRAIN_PYTHON=$(TRAIN_PYTHON))"
	@echo "make clean  remove both environments and caches"

demo: $(DEMO_ENV)/installed
	$(DEMO_ENV)/bin/python -m streaming $(BUNDLE) --to http://127.0.0.1:8000 --to demo.mp4 --every 5 --seconds 35

test: $(TEST_ENV)/installed servers
	$(TEST_ENV)/bin/ruff format --check .
	$(TEST_ENV)/bin/ruff check .
	$(TEST_ENV)/bin/mypy
	$(TEST_ENV)/bin/pytest

train: $(RUN)/polish.done
	@if $(TRAIN_PYTHON) -c 'import onnx, onnxruntime, onnxscript, PIL' 2>/dev/null; then \
	  test -e '$(RUN)/bundle/bundle.json' || \
	    $(TRAIN_PYTHON) -m export '$(RUN)' --out '$(RUN)/bundle' $(if $(WORDS),--words '$(WORDS)'); \
	else echo "$(RUN) is trained; to export it: python -m export $(RUN) --out BUNDLE, where onnxruntime and onnxscript are"; fi

# Each command resumes where it was stopped. The target files mark finished steps, so the next `make train` skips them.
$(RUN)/shards/shards.json:
	@test -e '$(TRAIN_CONFIG)' || { echo "no $(TRAIN_CONFIG): GENERATOR names one of training/configs, TRAIN_CONFIG any other file" >&2; exit 2; }
	@test -n '$(DATA)$(MADE)' || { echo "make train: name the footage, DATA=FOLDER" >&2; exit 2; }
	$(if $(DATA),,$(TRAIN_PYTHON) -m training footage --out '$(RUN)/footage' $(FOOTAGE))
	$(TRAIN_PYTHON) -m training shard '$(or $(DATA),$(RUN)/footage)' --out '$(RUN)/shards' $(if $(SHORT_SIDE),--short-side $(SHORT_SIDE))

$(RUN)/pretrain.done: $(RUN)/shards/shards.json
	$(TRAIN_PYTHON) -m training pretrain '$(TRAIN_CONFIG)' $(TRAIN_OPTIONS) $(TRAIN_WORDS)
	@touch '$@'

$(RUN)/finetune.done: $(RUN)/pretrain.done
	$(TRAIN_PYTHON) -m training finetune '$(TRAIN_CONFIG)' $(TRAIN_OPTIONS) $(TRAIN_WORDS)
	@touch '$@'

$(RUN)/polish.done: $(RUN)/finetune.done
	$(TRAIN_PYTHON) -m training polish '$(TRAIN_CONFIG)' $(TRAIN_OPTIONS)
	@touch '$@'

# No environment is made: what is to be checked is the one that is there. Without a GPU the first has status 2, and the
# second is not run.
gpu-check:
	status=0; $(TRAIN_PYTHON) -m benchmarks gpu-check $(BUNDLE) --json gpu-check.json || status=$$?; \
	  test $$status -lt 2 || exit $$status; \
	  $(TRAIN_PYTHON) -m benchmarks diffusers --engine $(GPU_ENGINES) --json gpu-check-diffusers.json && exit $$status

check-python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than 3.11; install a newer one and run: make PYTHON=python3.11 ..." >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }

$(DEMO_ENV)/installed: pyproject.toml | check-python
	@echo "installing the light CPU set into $(DEMO_ENV)"
	$(PYTHON) -m venv $(DEMO_ENV)
	$(DEMO_ENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[cpu]'
	@touch $@

$(TEST_ENV)/installed: pyproject.toml | check-python
	@echo "installing the development set into $(TEST_ENV) (PyTorch among it: a few minutes)"
	$(PYTHON) -m venv $(TEST_ENV)
	$(TEST_ENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

# Real servers and a browser for the tests marked `live`. Without the right to install them those tests skip and say so.
servers:
	@if [ -e /usr/lib/nginx/modules/ngx_rtmp_module.so ] && command -v chromium >/dev/null && command -v srt-live-transmit >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing $(APT_PACKAGES) for the live tests"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(APT_PACKAGES) >/dev/null; \
	else echo "no nginx with its RTMP module, no Chromium, or no srt-live-transmit: the tests that need them will skip (apt install $(APT_PACKAGES))"; fi

clean:
	rm -rf $(DEMO_ENV) $(TEST_ENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
