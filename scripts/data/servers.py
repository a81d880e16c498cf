"""Reads the sample's shards from an S3 server, moto's from PyPI, and from an HTTPS server, and holds them against the files.

usage: pip install 'moto[s3,server]' boto3 cryptography && python scripts/data/servers.py

A fifth shard is asked for that is nowhere: each side counts it as missing. The HTTPS server's certificate is signed by nobody: it is trusted where
SSL_CERT_FILE says so, and refused elsewhere.
"""

import datetime
import functools
import http.server
import ipaddress
import os
import pathlib
import ssl
import subprocess
import sys
import tempfile
import threading

import boto3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from moto.server import ThreadedMotoServer

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARDS = "train/{000000..000004}.tar.gz"
LOCAL = f"train={ROOT}/assets/sample/{SHARDS}"


def same(address, **environment):
    """Whether `address` gives the examples of the files."""
    command = "cargo run --release --quiet -p jest-data --features remote --example same --".split()
    return subprocess.run([*command, LOCAL, f"train={address}"], cwd=ROOT, env={**os.environ, **environment}).returncode == 0


def s3():
    """An S3 server with the shards, and what tells a client where it is."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    endpoint = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "us-east-1"}
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="testing", aws_secret_access_key="testing"
    )
    client.create_bucket(Bucket="jest-test")
    for shard in sorted((ROOT / "assets/sample/train").glob("*.tar.gz")):
        client.upload_file(str(shard), "jest-test", f"train/{shard.name}")
    return server, {"AWS_ENDPOINT": endpoint, **keys}


def certificate(folder):
    """A certificate for 127.0.0.1 that signs itself, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - day).not_valid_after(now + day)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    text = builder.add_extension(address, critical=False).sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = pathlib.Path(folder) / "both.pem"
    path.write_bytes(text + key.private_bytes(*plain))
    return path


def https(path):
    """An HTTPS server of the sample, which knows no ranges."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=ROOT / "assets/sample")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"https://127.0.0.1:{server.server_address[1]}/{SHARDS}"


def main():
    server, environment = s3()
    outcomes = {"s3": same(f"s3://jest-test/{SHARDS}", **environment)}
    server.stop()
    with tempfile.TemporaryDirectory() as folder:
        path = certificate(folder)
        address = https(path)
        outcomes["https"] = same(address, SSL_CERT_FILE=str(path))
        outcomes["https with a certificate that nobody trusts is refused"] = not same(address)
    for name, outcome in outcomes.items():
        print(f"{'ok' if outcome else 'FAILED'}: {name}")
    sys.exit(not all(outcomes.values()))


main()
