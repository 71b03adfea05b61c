"""Changing a SIF image in place, so that at every moment it is the one before or the one after.

`held` finds, locks and watches the file, `assembly` says what to write where, `inplace` writes it so that it can be
undone, `apart` in a process that is not killed with ours, and `editing` is all of that for whoever edits.
"""
