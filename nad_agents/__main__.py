"""Run the command `nad` as `python -m nad_agents`."""

from nad_agents.cli import main

main()
