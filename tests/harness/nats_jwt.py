"""An operator, an account and a user of a NATS server that wants credentials; openssl makes the keys."""

import base64
import json
import subprocess
import time

OPERATOR, ACCOUNT, USER, SEED = 14 << 3, 0, 20 << 3, 18 << 3


def _crc16(data):
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc.to_bytes(2, "little")


def _text(data):
    return base64.b32encode(data + _crc16(data)).decode().rstrip("=")


def _unpadded(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Key:
    def __init__(self, directory, name, kind):
        self.path, self.kind = directory / f"{name}.pem", kind
        run = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", self.path]
        subprocess.run(run, check=True, capture_output=True)
        private, public = (
            subprocess.run(["openssl", "pkey", "-in", self.path, "-outform", "DER", *more], check=True,
                           capture_output=True).stdout[-32:] for more in ([], ["-pubout"]))
        self.public = _text(bytes([kind]) + public)
        self.seed = _text(bytes([SEED | kind >> 5, (kind & 31) << 3]) + private)

    def sign(self, name, subject, nats):
        """A token in which this key says something about another."""
        claims = {"jti": name, "iat": int(time.time()), "iss": self.public, "name": name,
                  "sub": subject, "nats": {**nats, "version": 2}}
        parts = ({"typ": "JWT", "alg": "ed25519-nkey"}, claims)
        text = ".".join(_unpadded(json.dumps(part).encode()) for part in parts)
        body = self.path.with_suffix(".txt")
        body.write_text(text)
        signed = subprocess.run(["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", self.path, "-in", body],
                                check=True, capture_output=True).stdout
        return f"{text}.{_unpadded(signed)}"


def credentials(directory):
    """Lines of the server's config, and the path of a user's credentials."""
    operator, system, account, user = (Key(directory, name, kind) for name, kind in (
        ("operator", OPERATOR), ("system", ACCOUNT), ("account", ACCOUNT), ("user", USER)))
    everything = dict.fromkeys(
        ("subs", "data", "payload", "imports", "exports", "conn", "leaf", "mem_storage", "disk_storage",
         "streams", "consumer"), -1)
    about_operator = operator.sign("operator", operator.public, {"type": "operator"})
    # JetStream does not run without an account for the system, which may have no stream itself.
    plain = {key: -1 for key in everything if key not in ("mem_storage", "disk_storage", "streams", "consumer")}
    about_system, about_account = (
        operator.sign(name, key.public, {"type": "account", "limits": {**limits, "wildcards": True}})
        for name, key, limits in (("system", system, plain), ("account", account, everything)))
    about_user = account.sign("user", user.public,
                              {"type": "user", "subs": -1, "data": -1, "payload": -1})
    path = directory / "user.creds"
    path.write_text(
        f"-----BEGIN NATS USER JWT-----\n{about_user}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n")
    lines = (f"operator: {about_operator}\nresolver: MEMORY\nsystem_account: {system.public}\n"
             f"resolver_preload: {{ {account.public}: {about_account}, {system.public}: {about_system} }}")
    return lines, path
