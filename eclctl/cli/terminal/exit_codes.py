"""The exit codes of all commands. docs/exit-codes.md says what each means for which command; a test compares.

Constants and one function: `eclctl check` imports this module, and must start fast.
"""

OK = 0
FAILED = 1
USAGE = 2
NO_RESULT = 3
NOTHING_TESTED = 4
INTERRUPTED = 130  # 128 + SIGINT, as shells report it

ALLOW = OK
DENY = FAILED
NO_DECISION = NO_RESULT


def code_of_decision(decision: object) -> int:
    """Return the exit code for the `decision` of an answer. All but plain `allow` and `deny` is no decision."""
    return ALLOW if decision == "allow" else DENY if decision == "deny" else NO_DECISION
