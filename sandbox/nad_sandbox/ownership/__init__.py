"""Who owns containers and folders, so that leftovers of a dead process can be removed."""
