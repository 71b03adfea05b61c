"""`eclctl daemon`: runs the daemon in the foreground."""

from __future__ import annotations

import logging
import os
import sys

from eclctl.cli.terminal.parser import Parser
from eclctl.daemon.lifecycle import service

CONFIG = "/etc/eclctl/config.yaml"

_EXAMPLES = """The sockets appear when the daemon is ready. SIGHUP loads policy and keys again,
SIGTERM stops it. A daemon whose policy does not load runs, and denies
everything.

exit status:
  0  after SIGTERM
  1  it cannot start
  2  the configuration or the command line is wrong

examples:
  eclctl daemon --config /etc/eclctl/config.yaml
  systemctl enable --now eclctl
"""


def run(argv: list[str]) -> int:
    """Run `eclctl daemon`; return its exit status."""
    text = "Decides which container images may run, and answers on Unix sockets."
    parser = Parser("eclctl daemon", text, _EXAMPLES)
    parser.add_argument("--config", metavar="FILE", default=CONFIG, help=f"its configuration ({CONFIG})")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info", help="info")
    parser.add_argument("--log-json", action="store_true", help="log JSON lines instead of text")
    options = parser.parse_args(argv)
    status = service.serve(options.config, log_level=options.log_level, log_json=options.log_json)
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)  # a thread that hangs in the kernel, or hashes, must not hold up the end: nothing waits for it
