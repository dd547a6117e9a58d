"""Who is who: a certificate authority, the server's certificate, and a key pair for each agent.

The authority signs the server's certificate and nothing else; agents are known by their public
keys, as Flower's node authentication wants them: NIST P-384 in OpenSSH's format.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from backfire.deployment.layout import Deployment
from backfire.errors import DeployError, UsageError
from scenarios.text.quoting import printable

AUTHORITY_DAYS: Final = 3650
_SKEW = dt.timedelta(hours=1)  # agents' clocks may be behind


@dataclass(frozen=True)
class Signed:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def certificate_pem(self) -> bytes:
        """Return the certificate as PEM."""
        return self.certificate.public_bytes(Encoding.PEM)

    def key_pem(self) -> bytes:
        """Return the private key as PEM, not encrypted."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def authority(host: str, days: int) -> Signed:
    """Make a certificate authority of its own for one server.

    Args:
        host: The server's name, for the authority's own.
        days: How long the server's first certificate is valid; the authority is for 10 years
            or longer, so that certificates can be renewed without new kits.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"Backfire authority of {host}"[:64])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        _builder(name, key.public_key(), max(days, AUTHORITY_DAYS))
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return Signed(builder.sign(key, hashes.SHA256()), key)


def server(ca: Signed, names: Sequence[str], days: int) -> Signed:
    """Make the server's certificate.

    Args:
        ca: Who signs it.
        names: DNS names and IP addresses that the server is reached under; the first one is its
            common name.
        days: How long it is valid.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key())
    alternatives = x509.SubjectAlternativeName([_general(name) for name in names])
    server_only = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    builder = (
        _builder(_name(names[0][:64]), key.public_key(), days)
        .issuer_name(ca.certificate.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(server_only, critical=False)
        .add_extension(alternatives, critical=False)
        .add_extension(issuer, critical=False)
    )
    return Signed(builder.sign(ca.key, hashes.SHA256()), key)


def agent_key() -> tuple[bytes, bytes]:
    """Make an agent's key pair; return the private and the public key in OpenSSH's format."""
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    return private, key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)


def public_pem(path: Path) -> bytes:
    """Read an agent's public key in OpenSSH's format; return it as PEM, as Flower keeps it.

    Raises:
        UsageError: If it is no public key of Flower's kind.
    """
    wanted = "expected a public key made by `ssh-keygen -t ecdsa -b 384`, in its .pub file"
    try:
        key = load_ssh_public_key(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{wanted}; {printable(str(path))}: {error.strerror}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise UsageError(f"{wanted}; {printable(str(path))} is none") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise UsageError(f"{wanted}; {printable(str(path))} is of another kind")
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def read_authority(deployment: Deployment) -> Signed:
    """Read the authority of a deployment, to sign with it.

    Raises:
        DeployError: If its files are missing or broken.
    """
    return _read(deployment.ca, deployment.ca_key)


def days_left(deployment: Deployment) -> int:
    """Check the server's certificate; return for how many whole days it is still valid.

    Raises:
        DeployError: If agents could not trust it, with the remedy.
    """
    found = _read(deployment.server, deployment.server_key)
    certificate, ca = found.certificate, _certificate(deployment.ca)
    renew = f"run `backfire deploy renew {printable(str(deployment.folder))}`"
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        raise DeployError(f"server.crt is not signed by ca.crt; {renew}") from None
    now = dt.datetime.now(dt.UTC)
    if now > ca.not_valid_after_utc:
        raise DeployError("ca.crt has expired; make a new deployment with `backfire deploy init`")
    if now > certificate.not_valid_after_utc:
        raise DeployError(f"server.crt expired on {certificate.not_valid_after_utc:%F}; {renew}")
    if now < certificate.not_valid_before_utc:
        raise DeployError(
            f"server.crt is valid from {certificate.not_valid_before_utc:%F %R} UTC on; is the "
            "clock of this machine right?"
        )
    missing = [name for name in deployment.server_names if name not in _names(certificate)]
    if missing:
        raise DeployError(f"server.crt is not valid for {', '.join(missing)}; {renew}")
    return (certificate.not_valid_after_utc - now).days


def _read(certificate: Path, key: Path) -> Signed:
    found = _certificate(certificate)
    try:
        private = load_pem_private_key(key.read_bytes(), None)
    except OSError as error:
        raise DeployError(f"{printable(str(key))}: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise DeployError(f"{printable(str(key))}: expected a private key, PEM") from None
    if (
        not isinstance(private, ec.EllipticCurvePrivateKey)
        or private.public_key() != found.public_key()
    ):
        raise DeployError(f"{key.name} does not belong to {certificate.name}")
    return Signed(found, private)


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise DeployError(f"{printable(str(path))}: {error.strerror}") from None
    except ValueError:
        raise DeployError(f"{printable(str(path))}: expected a certificate, PEM") from None


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _names(certificate: x509.Certificate) -> set[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {str(item.value) for item in found}
