"""The words: every name a cluster or a user will ever see, and the shapes they come in.

`api` imports pydantic and nothing else of the world; a reader of the CRDs and a reader of the code find the same words here.
"""
