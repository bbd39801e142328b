"""Open a page on which to draw a number and see it read, until Ctrl-C."""

from __future__ import annotations

import argparse
import ipaddress
import os
import signal
import socket
from pathlib import Path

import mnist100
from mnist100.cli.console import open_console, say
from mnist100.cli.errors import CommandError, Interrupted
from mnist100.cli.options import add_model, add_threads, some_text, whole

_LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_model(parser)
    parser.add_argument(
        "--host",
        type=some_text("a name or an address"),
        default="127.0.0.1",
        metavar="ADDRESS",
        help="where to listen; 0.0.0.0 lets other machines in (default: 127.0.0.1)",
    )
    parser.add_argument(
        "--port",
        type=whole(0, 65535),
        default=8000,
        metavar="N",
        help="port to listen at, 0 for any free one (default: 8000)",
    )
    add_threads(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    import uvicorn  # these take a third of a second to import

    from mnist100.demo import server

    if options.threads is not None:
        mnist100.set_num_threads(options.threads)
    model = mnist100.load_model(options.model)
    with _listening(options.host, options.port) as listener:
        address, port = listener.getsockname()[:2]
        local = ipaddress.ip_address(address).is_loopback
        hosts = [*_LOCAL_NAMES, options.host, _bracketed(address)] if local else ["*"]
        app = server.application(model, hosts)
        settings = uvicorn.Config(
            app,
            # What goes wrong is told to whoever asked; what is left are connections that break off.
            log_level="error" if options.debug else "critical",
            lifespan="off",
            ws="none",
            limit_concurrency=64,
            timeout_graceful_shutdown=3,
        )
        try:
            _announce(options.model, address, port, local=local)
            uvicorn.Server(settings).run(sockets=[listener])
        except KeyboardInterrupt as error:
            number = signal.SIGINT if not isinstance(error, Interrupted) else error.code - 128
            raise Interrupted("the page is closed", 128 + number) from None


def _announce(model: Path, address: str, port: int, *, local: bool) -> None:
    console = open_console(json_output=False)
    say(console, f"{model} reads numbers at http://{_bracketed(address)}:{port}/ (Ctrl-C ends it)")
    if not local:
        say(console, "Any machine that reaches this one can use it")
    console.file.flush()


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address, family=family)
    except UnicodeError:
        raise CommandError(f"{host}: is no name of a machine; give another --host") from None
    except OSError as error:
        is_name = isinstance(error, socket.gaierror)  # its numbers are not the system's
        reason = error.strerror if is_name or not error.errno else os.strerror(error.errno)
        raise CommandError(
            f"{host}:{port}: {reason}; give another --host or --port (0 is any free one)"
        ) from None
