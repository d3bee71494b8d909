"""The one base class of every error that a user is meant to read."""


class RampError(ValueError):
    """Bad input, a missing file, no access, no room: one sentence that says what, where and what to do.

    The command lines print it without a traceback and exit with status 2 (see ``ramp.core.cli.run``).
    """
