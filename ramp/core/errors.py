"""The base class of every error that a user reads."""


class RampError(ValueError):
    """Bad input, a missing file, no access, no room: one sentence with the fault, the place and the remedy.

    The command lines print it without a traceback and exit with status 2 (see ``ramp.core.cli.run``).
    """
