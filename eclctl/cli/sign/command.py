"""`eclctl sign`: its options and how they go together. Making signatures is for `native` and `cosign`."""

from __future__ import annotations

import argparse
from functools import partial

from eclctl.cli.terminal.parser import Parser, add_repeatable, whole_number
from eclctl.cli.terminal.passphrases import VARIABLE, descriptor
from eclctl.sign.metadata import HASHES
from eclctl.terms import is_purpose
from eclctl.text import printable

_EXAMPLES = f"""\
Passphrases are asked for at the terminal; scripts give them by --passphrase-fd
or in ${VARIABLE}, never on the command line.

exit status: 0 when every image was signed, 1 when any was not (it is then as
it was), 2 for usage, 3 when the output cannot be written

examples:
  eclctl sign app.sif
  eclctl sign --fingerprint alice@site.example --purpose review app.sif
  eclctl sign --gnupg --config /etc/eclctl/config.yaml --as /srv/a.sif a.sif
  eclctl sign --key ci.pem --key release.pem *.sif
  eclctl sign --sif-id 3 app.sif
  eclctl sign --cosign --key cosign.key app.oci.sif
"""


def run(argv: list[str]) -> int:
    """Run the command with the arguments after its name and return the exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    if (wrong := _misused(options)) is not None:
        parser.error(wrong)
    if options.cosign:
        from eclctl.cli.sign import cosign  # noqa: PLC0415 - native signatures need none of it

        return cosign.run(options)
    from eclctl.cli.sign import native  # noqa: PLC0415 - `--help` needs none of it

    return native.run(options)


def _parser() -> Parser:
    made = Parser(
        "eclctl sign",
        "Adds digital signatures to SIF images: one for each object group, unless groups\nor objects are chosen.",
        _EXAMPLES,
    )
    made.add_argument("images", nargs="+", metavar="IMAGE", help="a SIF image")
    _add_keys(made)
    _add_scope(made)
    what = made.add_argument_group("what is signed")
    what.add_argument("--hash", choices=HASHES, default="sha256", help="digest of objects and header (sha256)")
    what.add_argument(
        "--purpose", type=_purpose, metavar="NAME", help="what the signature approves; policies can ask for it"
    )
    what.add_argument(
        "-c", "--cosign", action="store_true", help="a cosign signature of the image in an OCI-SIF, with --key"
    )
    add_repeatable(what, "--annotation", metavar="NAME=VALUE", text="with --cosign: say this of the image")
    _add_policy(made)
    made.add_argument("-y", "--yes", action="store_true", help="sign in spite of warnings, without asking")
    made.add_argument("--non-interactive", action="store_true", help="ask nothing, not even for a passphrase")
    made.add_argument("-j", "--json", action="store_true", help="print one JSON object for each image, one a line")
    return made


def _add_scope(parser: Parser) -> None:
    """Add what to sign, also by the names that the reference has given up."""
    scope = parser.add_argument_group("scope", "without these: every object group, one signature each")
    number = whole_number(1, (1 << 28) - 1)
    add_repeatable(scope, "-g", "--group-id", parse=number, metavar="ID", text="sign this object group")
    add_repeatable(scope, "-i", "--sif-id", parse=number, metavar="ID", text="sign this data object alone")
    hidden = partial(scope.add_argument, action="append", default=[], type=number, help=argparse.SUPPRESS)
    hidden("--groupid", dest="group_id")
    hidden("--id", dest="sif_id")
    scope.add_argument("-a", "--all", action="store_true", help=argparse.SUPPRESS)


def _add_keys(parser: Parser) -> None:
    keys = parser.add_argument_group("keys", "without these: the only private key of `eclctl keys list --secret`")
    add_repeatable(keys, "--key", metavar="FILE", text="a PEM private key; several keys sign together")
    keys.add_argument("--fingerprint", metavar="KEY", help="a PGP key: its fingerprint, key ID or email address")
    keys.add_argument(
        "-k",
        "--keyidx",
        type=whole_number(0, 999_999_999),
        metavar="N",
        help="its number in `eclctl keys list --secret`",
    )
    keys.add_argument("--secret-keyring", metavar="FILE", help="a file of private PGP keys instead of your ring")
    keys.add_argument("--gnupg", action="store_true", help="sign with a key of your GnuPG, with its agent and cards")
    keys.add_argument("-u", "--local-user", metavar="USER", help="with --gnupg: which one, as gpg takes it")
    keys.add_argument("--allow-v6", action="store_true", help="allow a PGP key of version 6, which only policies count")
    keys.add_argument("--passphrase-fd", type=descriptor, metavar="N", help="read passphrases here, one a line")


def _add_policy(parser: Parser) -> None:
    policy = parser.add_argument_group("policy", "show first what the image will lack; nothing depends on it")
    add_repeatable(policy, "--policy", metavar="FILE", text="a policy")
    add_repeatable(policy, "--keyring", metavar="FILE", text="its certificates")
    policy.add_argument("--config", metavar="FILE", help="the daemon's configuration, which names both")
    policy.add_argument("--as", dest="place", metavar="PATH", help="where the image will lie (where it is now)")


def _purpose(text: str) -> str:
    if not is_purpose(text):
        raise argparse.ArgumentTypeError(
            f"{printable(text)} is no purpose: 1 to 32 of a-z 0-9 . _ -, with a letter or digit at both ends"
        )
    return text


def _misused(options: argparse.Namespace) -> str | None:
    """Return what is wrong with how the options go together, or None."""
    wrong = _misused_keys(options) or _misused_policy(options)
    if wrong is not None:
        return wrong
    if options.cosign:
        return _misused_cosign(options)
    if options.annotation:
        return "--annotation is for --cosign"
    if options.purpose is not None and options.key:
        return "--purpose is for PGP and cosign signatures: one with a PEM key has no place for it"
    return None


def _misused_keys(options: argparse.Namespace) -> str | None:
    sources = {"--key": options.key, "--gnupg": options.gnupg, "--secret-keyring": options.secret_keyring}
    given = [name for name, value in sources.items() if value]
    if len(given) > 1:
        return f"{' and '.join(given)} name keys in different places; give one of them"
    chosen = [each for each in (options.fingerprint, options.keyidx, options.local_user) if each is not None]
    if options.key and chosen:
        return "--fingerprint, --keyidx and --local-user choose PGP keys, and --key is another kind"
    if options.gnupg and options.keyidx is not None:
        return "--keyidx counts the keys of your ring; with --gnupg, use --local-user"
    if not options.gnupg and options.local_user is not None:
        return "--local-user is for --gnupg; of your ring, choose with --fingerprint"
    if len(chosen) > 1:
        return "--fingerprint, --keyidx and --local-user each choose a key; give one of them"
    return None


def _misused_policy(options: argparse.Namespace) -> str | None:
    if options.keyring and not options.policy:
        return "--keyring is for --policy"
    if options.policy and options.config is not None:
        return "--config names policies; give it alone, or --policy"
    if options.place is not None and not options.policy and options.config is None:
        return "--as is for --policy and --config"
    return None


def _misused_cosign(options: argparse.Namespace) -> str | None:
    from eclctl.cli.sign import cosign as sign_cosign  # noqa: PLC0415 - native signatures need none of it

    if options.hash != "sha256":
        return "--cosign signatures are over SHA-256 digests; leave --hash out"
    return sign_cosign.cosign_signing_options_error(options)
