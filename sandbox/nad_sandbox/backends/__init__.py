"""The sandbox backends: Docker, bubblewrap, and an unsafe one without isolation."""
