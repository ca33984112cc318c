"""Record which process made a container, control group or folder, and remove those of dead processes."""
