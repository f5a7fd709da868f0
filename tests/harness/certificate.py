"""Certificates for the tests of TLS."""

import subprocess


def certificate(directory, name="one", names="DNS:localhost,IP:127.0.0.1"):
    """A certificate of its own for these names, and its key: NAME.pem and NAME.key."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2", "-subj",
         f"/CN={name}", "-addext", f"subjectAltName={names}", "-addext",
         "basicConstraints=critical,CA:FALSE"],
        cwd=directory, check=True, capture_output=True)
    return directory / f"{name}.pem", directory / f"{name}.key"
