"""The server of the page: on the loopback alone, asking nobody, and leaving nothing behind."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fastfcn.errors import UserError
from fastfcn.web.uploads import Limits

if TYPE_CHECKING:
    from fastfcn.web.app import Page
    from fastfcn.web.models import Models

#: The one address that is listened on; from another machine by `ssh -L 7860:localhost:7860 host`.
HOST = "127.0.0.1"

#: Told to Gradio and the hub's client before they are imported: no telemetry, no question for a newer version.
QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_SHARE": "False",
    "GRADIO_MCP_SERVER": "False",
    "GRADIO_ALLOWED_PATHS": "",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}

#: What the browser is told to refuse: every host but this one.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; media-src 'self' blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)


class Settings(NamedTuple):
    """How the page is served.

    Attributes:
        port: of the loopback.
        limits: on images.
        seconds: that the timing of stages takes for each comparison, about.
        waiting: comparisons that may wait for one another.
    """

    port: int = 7860
    limits: Limits = Limits()
    seconds: float = 1.0
    waiting: int = 16


def check_installed() -> None:
    """See that Gradio is there.

    Raises:
        UserError: it is not; the message says how to install it.
    """
    if importlib.util.find_spec("gradio") is None:
        raise UserError("the page needs gradio, which is not installed: pip install -e .[web]")


def check_port(port: int) -> None:
    """See that the port of the loopback is free.

    Raises:
        UserError: it is in use, or not for this user.
    """
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((HOST, port))
        except OSError as error:
            raise UserError(
                f"port={port} cannot be listened on ({error.strerror}): choose another one, e.g. "
                f"port={port + 1 if 1024 <= port < 65535 else 7860}."
            ) from error


def serve(models: Models, settings: Settings, *, trained: bool) -> None:
    """Serve the page until the process is interrupted or terminated.

    Args:
        models: that are offered.
        settings: how.
        trained: whether the models were; else the page says so.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with started(models, settings, trained=trained):
        print(f"page: http://{HOST}:{settings.port}/ (Ctrl+C ends it)", flush=True)
        stop.wait()


@contextmanager
def started(models: Models, settings: Settings, *, trained: bool) -> Iterator[Page]:
    """The page, served in threads of this process; what it has written is removed in the end."""
    _be_quiet()
    with tempfile.TemporaryDirectory(prefix="fastfcn_web_") as name:
        folder = Path(name).resolve()
        os.environ["GRADIO_TEMP_DIR"] = str(folder / "cache")
        page = _page(models, settings, folder, trained=trained)
        page.blocks.queue(max_size=settings.waiting, default_concurrency_limit=1)
        page.blocks.launch(**_launch_options(settings))
        try:
            yield page
        finally:
            page.blocks.close(verbose=False)


def _be_quiet() -> None:
    os.environ.update(QUIET)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # by which Gradio asks its own server
    # Gradio asks its own server at the start whether it is there; a proxy would not know of it.
    for key in ("NO_PROXY", "no_proxy"):
        known = [host for host in os.environ.get(key, "").split(",") if host]
        os.environ[key] = ",".join([*known, *(host for host in (HOST, "localhost") if host not in known)])


def _page(models: Models, settings: Settings, folder: Path, *, trained: bool) -> Page:
    from fastfcn.web import examples
    from fastfcn.web.app import Page
    from fastfcn.web.comparing import Comparer
    from fastfcn.web.downloads import Downloads

    comparer = Comparer(models, examples.draw(folder / "examples"), limits=settings.limits, seconds=settings.seconds)
    return Page(comparer, Downloads(folder / "downloads"), trained=trained)


def _launch_options(settings: Settings) -> dict[str, Any]:
    from fastapi.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from fastfcn.web.app import STYLE
    from fastfcn.web.looks import ICON, theme

    return {
        "server_name": HOST,
        "server_port": settings.port,
        "share": False,
        "inbrowser": False,
        "prevent_thread_lock": True,
        "quiet": True,
        "show_error": True,
        "footer_links": [],
        "run_history": False,
        "enable_monitoring": False,
        "pwa": False,
        "mcp_server": False,
        "ssr_mode": False,
        "strict_cors": True,
        "max_threads": 8,
        "max_file_size": settings.limits.megabytes * 2**20,
        "state_session_capacity": 16,
        "allowed_paths": [],
        "blocked_paths": _private(),
        "favicon_path": str(ICON),
        "theme": theme(),
        "css_paths": [STYLE],
        "app_kwargs": {
            "middleware": [
                # A page of another site whose name leads to this address is no guest.
                Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"]),
                Middleware(OwnHostOnly),
            ]
        },
    }


def _private() -> list[str]:
    """Folders of which nothing is served, whatever else is asked for."""
    return [str(Path.home() / name) for name in (".ssh", ".config", ".cache", ".aws", ".netrc")]


class OwnHostOnly:
    """Middleware: tells the browser to ask no other host, and refuses to fetch an address for it.

    Args:
        app: what is served.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, unless it wants a file of another host."""
        from starlette.responses import PlainTextResponse

        if scope["type"] == "http" and _asks_another(scope):
            await PlainTextResponse("Not served here.", status_code=403)(scope, receive, send)
            return

        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", []),
                    (b"content-security-policy", POLICY.encode()),
                    (b"referrer-policy", b"no-referrer"),
                ]
            await send(message)

        await self._app(scope, receive, with_policy)


def _asks_another(scope: Any) -> bool:
    path: Sequence[str] = str(scope["path"]).lower().partition("file")
    return "/proxy=" in str(scope["path"]).lower() or path[2].lstrip("=/").startswith(("http:", "https:"))
