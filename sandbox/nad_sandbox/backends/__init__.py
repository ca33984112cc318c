"""The sandboxes: Docker, bubblewrap, and an unsafe one without isolation."""
