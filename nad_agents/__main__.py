"""`python -m nad_agents` is `nad`."""

from nad_agents.cli import main

main()
