"""The method itself: which neurons a token activates, and how similar two candidates' activated neurons are."""
