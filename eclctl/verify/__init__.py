"""Signatures of one image, put together from reader, keys and digests.

`examine` finds facts for the policy engine: every signature of the image, at all times. `verify_scope` mirrors the
reference's `verify` command: every signature in scope must pass, now.
"""
