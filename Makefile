# Two commands do everything on a fresh machine: `make demo` and `make test`.

PYTHON ?= python3
DEMO_ENV := .venv-demo
TEST_ENV := .venv
BUNDLE ?= bundles/satellite-128
APT_PACKAGES := nginx libnginx-mod-rtmp

.PHONY: help demo test check-python servers clean

help:
	@echo "make demo   install the light CPU set and put $(BUNDLE) on air for 20 s (http://127.0.0.1:8000, demo.mp4)"
	@echo "make test   install the development set; run format, lint, types and tests"
	@echo "make clean  remove both environments and caches"

demo: $(DEMO_ENV)/installed
	$(DEMO_ENV)/bin/python -m streaming $(BUNDLE) --to http://127.0.0.1:8000 --to demo.mp4 --seconds 20

test: $(TEST_ENV)/installed servers
	$(TEST_ENV)/bin/ruff format --check .
	$(TEST_ENV)/bin/ruff check .
	$(TEST_ENV)/bin/mypy
	$(TEST_ENV)/bin/pytest

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

# A real RTMP server for the tests marked `live`. Without the right to install it those tests skip and say so.
servers:
	@if [ -e /usr/lib/nginx/modules/ngx_rtmp_module.so ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing $(APT_PACKAGES) for the live tests"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(APT_PACKAGES) >/dev/null; \
	else echo "no nginx with its RTMP module here: the tests that need it will skip (apt install $(APT_PACKAGES))"; fi

clean:
	rm -rf $(DEMO_ENV) $(TEST_ENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
