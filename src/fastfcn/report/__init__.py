"""The report of a set of runs: what each row gets right and what it costs, beside the paper's, with its uncertainty.

``gathering`` finds run directories and sweeps, ``runs`` reads one, ``rows`` puts them in order by the rules of
``comparison``. ``estimates`` has the intervals, ``paper`` the paper's tables, ``claims`` what of it the runs support,
``missing`` what is not there. ``measuring`` builds models for ``costs`` and ``figure``; ``scatter`` draws; ``tables``,
``beside``, ``findings``, ``origin``, ``text``, ``latex`` and ``csv_files`` write. ``making`` goes through all of it.
"""
