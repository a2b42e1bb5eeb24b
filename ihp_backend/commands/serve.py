"""``ihp serve``: the application under gunicorn."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger

from ihp_backend import logs
from ihp_backend.serving.supervisor import Supervisor
from ihp_backend.settings import Settings

if TYPE_CHECKING:
    from flask import Flask
    from gunicorn.config import Config

logger = logging.getLogger(__name__)

GRACEFUL_STOP_S = 30
EXTRA_THREADS = 8


@click.command()
@click.option("--host", help="Address to listen on.  [IHP_HOST]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on.  [IHP_PORT]")
@click.option("--threads", type=click.IntRange(1), help="Predictions computed at the same time.  [IHP_THREADS]")
def serve(host: str | None, port: int | None, threads: int | None) -> None:
    """Answers Label Studio's clicks over HTTP, until Ctrl+C or SIGTERM.

    SIGTERM lets the requests in flight finish. Beyond loopback it wants a user and a password, which Label
    Studio's model settings have fields for: IHP_BASIC_AUTH_USER and IHP_BASIC_AUTH_PASSWORD (or
    IHP_BASIC_AUTH_PASSWORD_FILE).

    A trainer runs beside it, unless IHP_TRAINER=false; `ihp trainer` says how to have it on another machine.

    \b
    GET /health tells whether the model is loaded, /metrics is for Prometheus.
    """
    try:
        settings = Settings.from_environment()
        given: dict[str, Any] = {"host": host, "port": port, "threads": threads}
        settings = replace(settings, **{name: value for name, value in given.items() if value is not None})
        check(settings)
        settings.make_data_dir()
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    logs.configure(settings.log_level)
    Server(settings).run()


def check(settings: Settings) -> None:
    """Refuses to let strangers in, or secrets out.

    Raises:
        ValueError: If others could reach the server without a password, or a token has nowhere to go.
    """
    if settings.label_studio_token and not settings.label_studio_url:
        raise ValueError(
            "IHP_LABEL_STUDIO_TOKEN is set without IHP_LABEL_STUDIO_URL: the token is sent to the address "
            "that you name, never to one that a request names. Set it, such as http://127.0.0.1:8080"
        )
    if settings.only_known_callers or settings.allow_anonymous:
        return
    raise ValueError(
        f"refusing to listen on {settings.host} without a password: whoever reaches it could read the "
        "project's images through it. Set IHP_BASIC_AUTH_USER and IHP_BASIC_AUTH_PASSWORD, or listen on "
        "127.0.0.1, or, where a firewall or proxy already keeps others out, set IHP_ALLOW_ANONYMOUS=true"
    )


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn is untyped
    """One worker process with many threads: the model and the caches exist once."""

    cfg: Config

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        """Tells gunicorn what the settings say."""
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        options = {
            "bind": f"{host}:{self._settings.port}",
            "workers": 1,
            "worker_class": "ihp_backend.serving.http_worker.Worker",
            # One for each prediction that runs or waits (most wait, for an image or for the model), and some
            # that are always free to answer /health and /webhook in time.
            "threads": self._settings.queue_limit + EXTRA_THREADS,
            "graceful_timeout": GRACEFUL_STOP_S,
            # The worker's heartbeat, no limit on requests; on a busy machine importing torch takes a while.
            "timeout": 120,
            "keepalive": 30,
            "control_socket_disable": True,
            "logger_class": _Logger,
            "proc_name": "ihp-serve",
        }
        if self._settings.trainer:
            command = [sys.executable, "-m", "ihp_backend", "trainer", "--parent", str(os.getpid())]
            trainer = Supervisor("trainer", command)
            options["when_ready"] = lambda _: trainer.start()
            options["on_exit"] = lambda _: trainer.stop()
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Makes the application in the worker, and starts to load the model."""
        try:
            from ihp_backend.serving.application import create_app
            from ihp_backend.serving.runtime import Runtime
        except ImportError as error:
            logger.error("%s", error)
            sys.exit(Arbiter.APP_LOAD_ERROR)
        runtime = Runtime(self._settings)
        runtime.preload()
        runtime.projects.watch()
        return create_app(runtime=runtime)


class _Logger(Logger):  # type: ignore[misc]  # gunicorn is untyped
    """Lets gunicorn's lines take the same way as ours."""

    def setup(self, cfg: Config) -> None:
        self.error_log.propagate = True
