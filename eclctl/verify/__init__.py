"""Signatures of one image, put together from reader, keys and digests.

`examine` finds facts for the policy engine: every signature of the image, whatever the time. `reference` mirrors the
reference's `verify` command: every signature in scope must pass, now. `hashing` finds the digests for both.
"""
