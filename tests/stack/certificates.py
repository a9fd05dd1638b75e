"""Certificates for the sandbox: an authority, a server, a client, and two clients that must be refused."""

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class _Authority:
    def __init__(self, name):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = _name(name)
        self.certificate = self._sign(
            self.name,
            self.key.public_key(),
            365 * DAY,
            (x509.BasicConstraints(ca=True, path_length=None), True),
        )

    def _sign(self, subject, public_key, lifetime, *extensions):
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 30 * DAY)
            .not_valid_after(now + lifetime)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, folder, file, name, usage, key, lifetime=365 * DAY, hosts=()):
        extensions = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (x509.ExtendedKeyUsage([usage]), False),
        ]
        if hosts:
            extensions.append((x509.SubjectAlternativeName(list(hosts)), False))
        certificate = self._sign(_name(name), key.public_key(), lifetime, *extensions)
        (folder / f"{file}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (folder / f"{file}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


def make(folder: Path):
    """Writes ca.pem and <name>.pem, <name>.key for server, client, expiring (in 20 days), expired and stranger (of another authority)."""
    folder.mkdir(parents=True, exist_ok=True)
    authority, other = _Authority("Sandbox CA"), _Authority("Another CA")
    (folder / "ca.pem").write_bytes(authority.certificate.public_bytes(serialization.Encoding.PEM))
    server, client = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    curve = ec.SECP256R1()
    authority.issue(folder, "server", "localhost", server, ec.generate_private_key(curve), hosts=hosts)
    # The NHS's certificates are RSA, so the one that everything uses is RSA too.
    subject = "01.x26.api.mesh-client.nhs.uk"
    authority.issue(folder, "client", subject, client, rsa.generate_private_key(65537, 2048))
    authority.issue(folder, "expiring", subject, client, ec.generate_private_key(curve), lifetime=20 * DAY)
    authority.issue(folder, "expired", subject, client, ec.generate_private_key(curve), lifetime=-DAY)
    other.issue(folder, "stranger", subject, client, ec.generate_private_key(curve))
