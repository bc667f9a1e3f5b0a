"""The one exception for a user's mistake."""


class UserError(ValueError):
    """A mistake of the user, told in one sentence that names the file, key or value and the remedy.

    The scripts print the sentence alone and exit with code 2; any other exception is a fault of the program and keeps
    its traceback.
    """
