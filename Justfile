# One-word tasks; `just` lists them. They use the environment of README.md's commands.
bin := ".venv/bin"

_default:
    @just --list

# ruff, mypy, layers
lint:
    {{bin}}/ruff check .
    {{bin}}/ruff format --check .
    {{bin}}/mypy
    {{bin}}/lint-imports

# the fast tests, in random order
test *args:
    {{bin}}/python -m pytest {{args}}

# the tests that take minutes
slow *args:
    {{bin}}/python -m pytest -m slow {{args}}

# which lines and branches the fast tests reach; fails where they are fewer than pyproject.toml says
cov *args:
    {{bin}}/python -m pytest --cov --cov-report=term-missing:skip-covered {{args}}

# would the tests notice? 300 one-line mutants, each against the tests that cover its line
mutants *args:
    {{bin}}/python bench/mutants.py {{args}}

# one table against other tools, at `--environments FOLDER`; --write puts it into docs/benchmarks.md
versus *args:
    {{bin}}/python -m bench {{args}}

# run the pages that are sessions again and put today's figures into them
sessions *args:
    {{bin}}/python docs/sessions.py {{args}}

# speed of what step2 builds
bench *args:
    {{bin}}/python bench/builder.py {{args}}

# run the notebooks again and keep their outputs
demos:
    {{bin}}/python demos/run_notebooks.py

# write what documents repeat from the program, then the site (work/site; `pip install -e '.[docs]'` has its tools)
docs:
    {{bin}}/python docs/write_docs.py
    {{bin}}/mkdocs build

# do the addresses outside answer?
links:
    {{bin}}/python docs/external_links.py

# what CI runs, from a fresh copy of HEAD
ci:
    bash .ci/run

# hand step4's files to the real tools that the environment names (tests/consumers/README.md)
consumers model dataset:
    {{bin}}/python tests/consumers/run.py {{model}} {{dataset}}
