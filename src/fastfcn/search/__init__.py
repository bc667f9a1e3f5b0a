"""Search for hyper-parameters, on Optuna's ask-and-tell.

``space`` says what may vary, ``strategy`` how trials are chosen and stopped, ``study`` is what is known so far, kept in
the sweep's directory by ``journal``, ``reporter`` is how a trial sees it. ``driver`` asks for trials until the budget
is spent, ``runners`` run them, ``report`` tells what came out. What Hydra needs to know of it is in
``hydra_plugins.fastfcn_sweeper.search``. ``space``, ``driver`` and ``runners`` do without Optuna.
"""
