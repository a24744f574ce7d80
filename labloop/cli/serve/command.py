"""The command `labloop serve`; what serves loads inside it."""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from labloop.cli import show
from labloop.cli.app import Common, _lab, app
from labloop.cli.serve.children import get_ready
from labloop.cli.serve.settings import Settings, settings_of
from labloop.errors import LabloopError
from labloop.runtime.environment import Environment


@app.command(group=_lab)
def serve(
    *,
    port: int = 8791,
    host: str = "127.0.0.1",
    name: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    behind_proxy: bool = False,
    largest: int = 64,
    common: Common = Common(),
) -> None:
    """Serve a page for people who use no terminal: plates, results, approvals; on this computer only, unless told otherwise.

    Whoever opens it may read. To write one logs in with one's name and the token that is printed here, or that the environment
    has as LABLOOP_SERVE_TOKEN.

    Args:
        port: where it listens; 0 for any that is free.
        host: the address to listen on; others than this computer's need a token of yours and TLS or a proxy,
            and reading then needs a login too.
        name: the name, or NAME:PORT, that browsers know it by, once for each.
        tls_cert: the certificate's PEM file.
        tls_key: the certificate's key.
        behind_proxy: a proxy before it ends TLS and hands requests on to this address.
        largest: MB of a file that may be dropped on it.
    """
    common.start()
    try:
        import uvicorn

        from labloop.cli.serve.site import site
    except ModuleNotFoundError as error:
        raise LabloopError(f"a page needs the package {error.name!r}: pip install 'labloop-toolkit[serve]'") from error
    except RuntimeError as error:  # what FastAPI raises where forms cannot be read
        raise LabloopError(f"a page needs more packages: pip install 'labloop-toolkit[serve]' ({error})") from error
    listening = _listen(host, port)
    get_ready()
    port = int(listening.getsockname()[1])
    settings = settings_of(
        home=common.home, ledger=common.ledger, host=host, port=port, names=name, tls=(tls_cert, tls_key), proxied=behind_proxy,
        largest=largest, token=Environment.now().serve_token, plugins=common.plugins,
    )  # fmt: skip
    _say(settings, json=common.json)
    config = uvicorn.Config(
        site(settings), log_level="info" if common.verbose else "warning", access_log=common.verbose, server_header=False,
        proxy_headers=behind_proxy, timeout_keep_alive=15, limit_concurrency=200, timeout_graceful_shutdown=5,
        ssl_certfile=tls_cert, ssl_keyfile=tls_key,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    """Take the port before anything is said, so that what is printed is true."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise LabloopError(
                f"{host}, port {port}: another program listens there, perhaps labloop serve itself: look at "
                f"http://{host}:{port}, or choose another --port (0 takes any that is free)"
            ) from error
        raise LabloopError(
            f"{host}, port {port}: {getattr(error, 'strerror', None) or error}: choose another --port or --host"
        ) from error


def _say(settings: Settings, *, json: bool) -> None:
    if json:
        return show.dump({"url": settings.url, "token": settings.token if settings.made_token else None})
    show.out.print(Text(f"labloop is served at {settings.url}; stop it with Ctrl+C"))
    if settings.made_token:
        show.out.print(Text(f"To write, log in there with your name and this token: {settings.token}"))
