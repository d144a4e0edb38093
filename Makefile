# The two commands: make run, make test. Everything sets itself up: Python 3.11-3.13, make and a package index are enough.
PYTHON ?= python3
BIN := .venv/bin
SETUP := $(PYTHON) scripts/install.py
JOBS ?= 3

# With it set, every process would compile TensorFlow's Python again.
unexport PYTHONDONTWRITEBYTECODE
# Nothing that we start phones home.
export DO_NOT_TRACK := true
export DVC_NO_ANALYTICS := 1

.DEFAULT_GOAL := help
.PHONY: help caption run demo down profile deploy api test conformance check format lock bench

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

caption: ## set up, then caption $(PHOTO) with the model that comes with the code: make caption PHOTO=photo.jpg
	@$(SETUP) pipeline
	@$(BIN)/captioner caption $(if $(PHOTO),"$(PHOTO)")

run: ## set up, then the whole loop: data, two models, release, captions from the local endpoint
	@$(SETUP) local
	@$(BIN)/captioner run

demo: ## set up, then the whole loop as a story: two models, simulated users, an experiment, a promotion
	@$(SETUP) local
	@$(BIN)/captioner demo $(ARGS)

down: ## stop the local stack; its state stays
	@$(SETUP) local
	@$(BIN)/captioner down

profile: ## put profiles/$(NAME).yaml into params.yaml: make profile NAME=flickr8k
	@$(SETUP) local
	@$(BIN)/captioner profile use "$(NAME)"

deploy: ## bring the endpoint in line with the registry; CAPTIONER_AWS=real means AWS itself
	@$(SETUP) pipeline
	@$(BIN)/captioner deploy

api: ## set up, then the code of the REST API for AWS Lambda: dist/captioner-api.zip (docs/aws.md)
	@$(SETUP) local
	@$(BIN)/python scripts/lambda_zip.py

test: ## set up, then all tests, three files at once, for some of them wait rather than compute; JOBS=1 runs one (ARGS="-k words" goes to pytest)
	@$(SETUP) dev
	@$(BIN)/python -m pytest $(if $(filter-out 1,$(JOBS)),-n $(JOBS) --dist loadscope --no-loadscope-reorder) $(ARGS)

conformance: ## what AWS documents of SageMaker, tried on the local one; AWS=1: on AWS, for about a dollar (docs/local-sagemaker.md)
	@$(SETUP) dev
	@$(BIN)/python -m pytest --confcutdir=tests/conformance tests/conformance -p no:cacheprovider \
		$(if $(AWS),--aws --image="$(IMAGE)" --role="$(ROLE)" --bucket="$(BUCKET)" --timeout=3600) $(ARGS)

bench: ## set up, then the benchmarks (ARGS="extraction beam" runs some of them; docs/results.md)
	@$(SETUP) bench
	@$(BIN)/python -m benchmarks.torch_peer $(TORCH)
	@$(BIN)/python -m benchmarks $(ARGS)

check: ## format, lint, types, import order, and that docs and pipeline say what is so
	@$(SETUP) dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/test_house.py

format: ## let ruff format and mend what it can
	@$(SETUP) dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: ## renew requirements/ from pyproject.toml (ARGS=--keep: without upgrades)
	@$(SETUP) uv
	@$(BIN)/python scripts/lock.py $(ARGS)
