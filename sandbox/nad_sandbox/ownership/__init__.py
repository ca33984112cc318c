"""Which process made a container, control group or folder, and removing those of dead processes."""
