"""`eclctl pull`: an OCI-SIF from an OCI image, or a whole SIF, out of a registry."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable
from typing import Any

from eclctl.cli.inputs.policies import SYSTEM_CONFIG
from eclctl.cli.inputs.registries import (
    add_registry_options,
    connect,
    print_transfer_failure,
    show_progress,
    teller,
)
from eclctl.cli.terminal.exit_codes import OK, USAGE
from eclctl.cli.terminal.output import print_json
from eclctl.cli.terminal.parser import Parser
from eclctl.dataclass import dataclass, replace
from eclctl.decide.questions import Decision
from eclctl.errors import EclctlError, MalformedImageError, RemoteError
from eclctl.files.atomic import NewFileError
from eclctl.files.resumable import PartialFile, open_partial
from eclctl.local.at_path import decide_as_if_at
from eclctl.local.engine import load_site
from eclctl.remote.http.client import TransientError
from eclctl.remote.registry.client import Registry
from eclctl.remote.registry.images import (
    MAX_CONFIG,
    FoundManifest,
    architecture_of,
    find_image,
    find_signatures,
    require_runnable_layers,
    sif_layer,
)
from eclctl.remote.registry.names import Reference, parse_reference
from eclctl.remote.registry.transfer import fill
from eclctl.report.answers import decision_fields
from eclctl.sif import oci_sif, reader
from eclctl.sign.new_oci_sif import Member, PlacedBlob, PlannedImage, plan_oci_sif
from eclctl.terms import Kind, Verdict
from eclctl.text import counted, printable

_TEXT = """\
Pulls an image from a registry. docker:// gives an OCI-SIF, byte by byte as
SingularityCE writes one, from an OCI image whose layers are squashfs;
--with-cosign puts its cosign signatures into it. oras:// gives the SIF file
that was pushed. Every byte is compared with its digest. A pull that is
interrupted goes on where it stopped.

With --require-allow the site's policy decides on the file for the name that it
will have, for you, before it has that name: what may not run never appears
there."""

_EXAMPLES = """\
exit status: 0 pulled, 1 not pulled or not allowed, 2 usage, 3 when the output
cannot be written

examples:
  eclctl pull docker://registry.example/prod/solver:1.2
  eclctl pull --with-cosign --require-allow \\
      /srv/containers/prod/solver.oci.sif \\
      docker://registry.example/prod/solver:1.2
  eclctl pull --force solver.sif oras://registry.example/prod/solver:1.2
  eclctl pull --arch arm64 docker://registry.example/prod/solver@sha256:…
  eclctl pull --no-https solver.sif oras://localhost:5000/solver:1.2"""

_KEPT = "What has come is kept: the same command goes on from there"
_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "i386": "386",
    "i686": "386",
    "armv7l": "arm/v7",
    "armv6l": "arm/v6",
    "arm32v7": "arm/v7",
    "arm32v6": "arm/v6",
    "arm32v5": "arm/v5",
    "arm64v8": "arm64",
}


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be pulled: the manifests, the file that they make, and what tells that file from others."""

    image: FoundManifest
    signatures: FoundManifest | None
    file: PlannedImage

    @property
    def content(self) -> str:
        """What is to be in the file, in words that no other content has."""
        signatures = self.signatures.document.digest if self.signatures is not None else ""
        return f"{self.image.document.digest} {signatures}"

    @property
    def signature_count(self) -> int:
        """How many cosign signatures come with it."""
        return len(self.signatures.manifest.layers) if self.signatures is not None else 0


class _DeniedError(EclctlError):
    """The policy does not allow the image."""

    code = "denied"

    def __init__(self, decision: Decision) -> None:
        super().__init__(f"not allowed: {decision.reason} ({decision.code}); nothing was kept")
        self.decision = decision


def run(argv: list[str]) -> int:
    """Run the command with the arguments after its name and return the exit status."""
    parser = _parser()
    options = parser.parse_intermixed_args(argv)  # else no option could stand between the two names
    try:
        reference = parse_reference(options.reference)
    except RemoteError as error:
        known = _known(options.output, options.reference)
        return print_transfer_failure("pull", error, as_json=options.json, **known) and USAGE
    if options.with_cosign and reference.scheme != "docker":
        parser.error("--with-cosign is for docker://; oras:// pulls the whole file, with all signatures in it")
    if options.config is not None and not options.require_allow:
        parser.error("--config says whose policy --require-allow asks; give both")
    path = options.output or _default_name(reference)
    known = _known(path, str(reference))
    try:
        decision = _pull(options, reference, path, known)
    except (EclctlError, OSError) as error:
        denied = error.decision if isinstance(error, _DeniedError) else None
        known["decision"] = denied and decision_fields(denied)
        if denied is not None and not options.json:
            _show_missing(denied)
        return print_transfer_failure("pull", error, as_json=options.json, **known)
    if options.json:
        print_json({**known, "decision": decision and decision_fields(decision), "error": None})
    else:
        _report(known, decision)
    return OK


def _known(path: str | None, reference: str) -> dict[str, Any]:
    """Return what is told as JSON however it ends; what comes to be known is put into it."""
    known = {"image": path, "reference": reference, "digest": None, "size": None, "resumed": None}
    return {**known, "signatures": None, "warnings": [], "decision": None}


def _parser() -> Parser:
    parser = Parser("eclctl pull", _TEXT, _EXAMPLES)
    parser.add_argument("output", nargs="?", metavar="OUTPUT", help="the file (NAME_TAG.sif, or .oci.sif)")
    parser.add_argument("reference", metavar="REFERENCE", help="docker://HOST[:PORT]/NAME:TAG, …@sha256:…, or oras://…")
    parser.add_argument("--with-cosign", action="store_true", help="put the image's cosign signatures into the OCI-SIF")
    parser.add_argument("--arch", type=_architecture, metavar="ARCH", help="amd64, arm64, ppc64le…; else this host's")
    parser.add_argument("-F", "--force", action="store_true", help="replace OUTPUT if it is there")
    parser.add_argument("--require-allow", action="store_true", help="only if the policy allows it under that name")
    parser.add_argument("--config", metavar="FILE", help=f"whose policy ({SYSTEM_CONFIG})")
    add_registry_options(parser)
    return parser


def _architecture(text: str) -> str:
    return _ARCHITECTURES.get(text, text)


def _default_name(reference: Reference) -> str:
    """The file that SingularityCE makes of a reference."""
    behind = reference.digest.replace(":", "-")[: len("sha256-") + 12] if reference.digest else reference.tag
    ending = "oci.sif" if reference.scheme == "docker" else "sif"
    return f"{reference.repository.rpartition('/')[2]}_{behind}.{ending}"


def _pull(options: argparse.Namespace, reference: Reference, path: str, known: dict[str, Any]) -> Decision | None:
    """Pull, and return what the policy decided if it was asked."""
    tell = teller("pull", known, as_json=options.json)
    # What would be refused at the end is refused before anything is fetched.
    if os.path.isdir(path):
        raise NewFileError(f"{path}: this is a directory; name the file in it")
    if not options.force and os.path.lexists(path):
        raise NewFileError(f"image file already exists: {path!r} - will not overwrite; --force does")
    if options.require_allow:
        load_site(options.config or SYSTEM_CONFIG)  # what is wrong with it is said before anything is fetched
    registry = connect(options, reference, tell, push=False)
    plan = _plan(registry, reference, options, tell)
    known |= {"digest": plan.image.document.digest, "size": plan.file.size, "signatures": plan.signature_count}
    with open_partial(path, plan.content, replace=options.force) as file:
        file.require_space(plan.file.size)
        with show_progress(f"pulling {os.path.basename(path)}", plan.file.size) as advance:
            known["resumed"] = _download(registry, file, plan.file, advance)
        try:
            _require_readable(file, plan, reference)
            decision = _decision(options, file)
        except EclctlError:
            file.remove()
            raise
        file.publish(replace=options.force)
    return decision


def _plan(registry: Registry, reference: Reference, options: argparse.Namespace, tell: Callable[[str], None]) -> _Plan:
    """Return what the file will be, before anything large is fetched."""
    architecture = options.arch or _architecture(platform.machine())
    image = find_image(registry, reference.chosen, architecture)
    if reference.scheme == "oras":
        layer = sif_layer(image.manifest)
        return _Plan(image, None, PlannedImage(b"", (PlacedBlob(layer.digest, layer.size, 0, None),), layer.size))
    require_runnable_layers(image.manifest)
    known = _config(registry, image, architecture)
    signatures = find_signatures(registry, image.document.digest) if options.with_cosign else None
    if options.with_cosign and signatures is None:
        tell(f"the registry has no cosign signatures of {image.document.digest}")
    members = [Member(image.document.raw, image.manifest, image.document.media_type)]
    if signatures is not None:
        name = f"_cosign:{image.document.digest.replace(':', '-')}.sig"
        members.append(Member(signatures.document.raw, signatures.manifest, signatures.document.media_type, name))
    drawn = plan_oci_sif(members)
    placed = tuple(replace(each, data=known.get(each.digest, each.data)) for each in drawn.placed)
    return _Plan(image, signatures, PlannedImage(drawn.head, placed, drawn.size))


def _config(registry: Registry, image: FoundManifest, architecture: str) -> dict[str, bytes]:
    """Fetch the image's config, by digest, and require that it names the architecture."""
    content = image.manifest.config
    if content.size > MAX_CONFIG:
        raise RemoteError(f"the image's config has {content.size} bytes; {MAX_CONFIG} are read")
    config = registry.small_blob(content.digest, content.size)
    named = architecture_of(config)
    if named and architecture not in {named, named.partition("/")[0]}:
        raise RemoteError(f"the image is for {printable(named)}, not for {printable(architecture)}; --arch chooses")
    return {content.digest: config}


def _download(registry: Registry, file: PartialFile, drawn: PlannedImage, advance: Callable[[int], None]) -> int:
    try:
        return fill(registry, file.fd, drawn.placed, drawn.head, advance)
    except TransientError as error:
        raise RemoteError(f"{error}. {_KEPT}") from error
    except OSError as error:
        raise NewFileError(f"{file.final}: {error.strerror}. {_KEPT}") from error


def _require_readable(file: PartialFile, plan: _Plan, reference: Reference) -> None:
    """Require that what was written can be read as an image, as it is read to run it."""
    image = reader.read(file.fd)
    if reference.scheme == "oras":
        return
    layout = oci_sif.read_layout(image) if image.kind is Kind.OCI_SIF else None
    found = layout.image if layout is not None else None
    if found is None or found.problem is not None or found.digest != plan.image.document.digest:
        problem = (found.problem if found is not None else layout and layout.problem) or None
        raise MalformedImageError(f"no image comes of it: {problem.message if problem else 'its manifest is another'}")


def _decision(options: argparse.Namespace, file: PartialFile) -> Decision | None:
    if not options.require_allow:
        return None
    decision = decide_as_if_at(options.config or SYSTEM_CONFIG, file.path, file.final)
    if decision.verdict is not Verdict.ALLOW:
        raise _DeniedError(decision)
    return decision


def _show_missing(decision: Decision) -> None:
    for unmet in decision.missing:
        could = ", ".join(printable(name) for name in unmet.could_sign) or "no signer"
        print(f"needs {printable(unmet.requirement)}: {unmet.have} of {unmet.needed}; {could} could sign")
    if decision.message:
        print(printable(decision.message))


def _report(known: dict[str, Any], decision: Decision | None) -> None:
    print(f"pulled {known['reference']} to {printable(known['image'])}")
    kept, signatures = known["resumed"], known["signatures"]
    print(f"digest {known['digest']}, {known['size']} bytes" + (f", {kept} of them from before" if kept else ""))
    if signatures:
        print(f"{counted(signatures, 'cosign signature')}; eclctl verify --cosign --key … tells whose")
    if decision is not None:
        print(f"allowed: {printable(decision.reason)}")
