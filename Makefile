# make run      Label Studio with this backend and photos, ready to click
# make install  the `ihp` command alone, in .venv
# make test     linters, types, import contract, tests
# make hostile  what a hostile network can try; minutes, on loopback only (part of make test)
# make e2e      the real Label Studio in a real browser
# make lock     what the image installs, with hashes
#
# Each does all its own set-up, in .venv and .venv-label-studio. Options:
#   make run IMAGES=dir PORT=8080 BACKEND_PORT=9090
#   TORCH_INDEX=URL   where torch comes from; without a GPU, its own CPU index if that can be reached (no gigabytes of CUDA)

PYTHON ?= python3.11
PORT ?= 8080
BACKEND_PORT ?= 9090
IMAGES ?=
CPU_TORCH = https://download.pytorch.org/whl/cpu/
TORCH_INDEX ?= $(shell command -v nvidia-smi >/dev/null || \
  $(PYTHON) -c "import urllib.request as r; r.urlopen('$(CPU_TORCH)', timeout=5); print('$(CPU_TORCH)')" 2>/dev/null)

PIP = -m pip install --quiet --disable-pip-version-check
READY = .venv/ready
DEV_READY = .venv/dev-ready
DEMO_READY = .venv/demo-ready
LABEL_STUDIO_READY = .venv-label-studio/ready

.PHONY: run install test hostile e2e lock chromium clean
.DEFAULT_GOAL := run

run: $(DEMO_READY) $(LABEL_STUDIO_READY)
	@.venv/bin/ihp demo --port $(PORT) --backend-port $(BACKEND_PORT) $(if $(IMAGES),--images "$(IMAGES)")

install: $(READY)

test: $(DEV_READY)
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/pytest

# Requests that never end, JSON and image bombs, strangers, damaged records, full disks.
hostile: $(DEV_READY)
	.venv/bin/pytest tests/hostile tests/serving/test_front.py tests/serving/test_json_body.py tests/test_again.py \
	  tests/label_studio/test_decoding_process.py tests/test_fuzz.py tests/test_limits.py tests/test_security.py \
	  tests/test_logs.py tests/experiments/test_soak.py

e2e: $(DEV_READY) $(DEMO_READY) $(LABEL_STUDIO_READY) chromium
	.venv/bin/pytest -m e2e tests/e2e

# What the image installs, with hashes. torch's CPU build is on its own index, and that alone is taken from there.
UV = .venv/bin/uv pip compile --quiet --generate-hashes --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
  --no-annotate --no-header
lock: $(DEV_READY)
	@for device in cpu cuda; do \
	  file=deploy/requirements-$$device.lock; new=$$(mktemp); head -1 $$file >$$new; \
	  if [ $$device = cpu ]; then sed 's/^torch==[^+]*$$/&+cpu/' requirements.txt; else cat requirements.txt; fi \
	    | $(UV) --find-links $(CPU_TORCH)torch/ - >>$$new \
	  && $(UV) --no-deps requirements-sdk.txt >>$$new && cp $$new $$file && rm $$new || exit 1; \
	done

chromium:
	@command -v chromium >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; \
	  else \
	    echo "The browser tests need Chromium: install it (Debian: apt-get install chromium), then again make e2e." >&2; \
	    exit 1; \
	  fi; }

.venv/bin/python .venv-label-studio/bin/python:
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) with its venv module is needed (Debian: apt-get install python3.11-venv; or set PYTHON=...)." >&2; \
	  exit 1; }
	$(PYTHON) -m venv $(@D)/..

$(READY): requirements.txt requirements-sdk.txt | .venv/bin/python
	@index="$(TORCH_INDEX)"; [ -z "$$index" ] || .venv/bin/python $(PIP) --index-url "$$index" "$$(grep ^torch== requirements.txt)" \
	  || echo "torch does not come from $$index; trying the usual index"
	.venv/bin/python $(PIP) -r requirements.txt
	.venv/bin/python $(PIP) --no-deps -r requirements-sdk.txt
	.venv/bin/python $(PIP) --no-deps --editable .
	@touch $@

$(DEMO_READY): requirements-demo.txt $(READY)
	.venv/bin/python $(PIP) --no-deps -r requirements-demo.txt
	@touch $@

$(DEV_READY): requirements-dev.txt $(READY)
	.venv/bin/python $(PIP) -r requirements-dev.txt
	@touch $@

$(LABEL_STUDIO_READY): requirements-label-studio.txt | .venv-label-studio/bin/python
	.venv-label-studio/bin/python $(PIP) -r requirements-label-studio.txt
	@touch $@

clean:
	rm -rf .venv .venv-label-studio .run
