"""The method itself: which neurons a token activates, and how alike two candidates' activated neurons are."""
