"""The one exception for a user's mistake."""


class UserError(ValueError):
    """A mistake of the user, told in one sentence that names the file, key or value and the remedy.

    The scripts print the sentence alone and exit with code 2; any other exception is a fault of the program and keeps
    its traceback.
    """

    #: What a script ends with, as argparse has it.
    exit_code = 2


class BadSampleError(UserError):
    """One sample of a data set cannot be read or is wrong: a damaged file, a mask of another size, an unknown label.

    ``data.on_bad_sample=skip`` trains on without it.
    """


class UnreadableError(BadSampleError):
    """A file of a sample is damaged, missing, or of a kind that cannot be used."""


class SizeMismatchError(BadSampleError):
    """A mask is not of its image's size."""


class UnknownLabelError(BadSampleError):
    """A mask holds a value or colour that is no class and not ignored."""
