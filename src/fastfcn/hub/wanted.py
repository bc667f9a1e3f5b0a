"""What is wanted of a model on the hub."""

from __future__ import annotations

from dataclasses import dataclass

from fastfcn.errors import UserError
from fastfcn.hub.address import is_repo


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The options of ``to=hub``.

    Attributes:
        repo: ``user/name``.
        push: Whether the folder is pushed.
        private: Whether a repository that is made is private.
        endpoint: Of the hub; None: HF_ENDPOINT, or huggingface_hub's own.
        license: Identifier of the weights' licence; None: what is known.
        data_license: Of the data, in words; None: what is known.
        evaluation: An `evaluation.json` of this checkpoint, or its folder; None: that of its run directory, if any.
    """

    repo: str | None = None
    push: bool = False
    private: bool = True
    endpoint: str | None = None
    license: str | None = None
    data_license: str | None = None
    evaluation: str | None = None

    def asked_for(self, to: str) -> bool:
        """Whether the hub is meant.

        Raises:
            UserError: An option of the hub is given with something else.
        """
        if to != "hub" and self != Wanted():
            name = next(name for name, value in vars(self).items() if value != vars(Wanted())[name])
            raise UserError(f"hub.{name} is for to=hub, not for to={to}: give to=hub, or leave it out.")
        return to == "hub"

    def named(self) -> str:
        """The repository.

        Raises:
            UserError: None is given, or it is no ``user/name``.
        """
        if self.repo is None or not is_repo(self.repo):
            given = "null" if self.repo is None else self.repo
            raise UserError(f"hub.repo={given}: give the repository as hub.repo=user/name, which the card names.")
        return self.repo
