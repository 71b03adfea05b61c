"""`eclctl daemon`: runs the daemon in the foreground."""

from __future__ import annotations

import argparse
import logging
import os
import sys

from eclctl.daemon import service

_EXAMPLES = """The sockets appear when the daemon is ready. SIGHUP loads policy and keys again, SIGTERM stops it.

exit status: 0 after a clean stop, 2 when the configuration or the command line is wrong, 1 when it cannot start

examples:
  eclctl daemon --config /etc/eclctl/config.yaml
  systemctl enable --now eclctl
"""


def run(argv: list[str]) -> int:
    """Run `eclctl daemon`; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="eclctl daemon",
        description="Decides which container images may run, and answers on Unix sockets.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", default="/etc/eclctl/config.yaml", help="its configuration")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    parser.add_argument("--log-json", action="store_true", help="log JSON lines instead of text")
    options = parser.parse_args(argv)
    status = service.run(options.config, log_level=options.log_level, log_json=options.log_json)
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)  # a thread that hangs in the kernel, or hashes, must not hold up the end: nothing waits for it
