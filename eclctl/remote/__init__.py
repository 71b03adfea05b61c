"""Every connection that eclctl opens to the outside, and what is kept of the answers.

Rules of this package:

1. Nothing here decides. What it learns is handed downwards as values (`trust.revocation.StatusSource`).
2. Every exchange has a deadline for all of it and a bound on every size (`http`).
3. There is one HTTP client (`http`). aiohttp is imported with the first exchange, never before: a command or a daemon
   that fetches nothing does not pay for it.
"""
