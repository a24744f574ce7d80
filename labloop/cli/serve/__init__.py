"""The page for the bench: campaigns in a browser, by the same verbs as the command line (FastAPI, Jinja2, the extra `serve`)."""
