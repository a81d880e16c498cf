"""Reads the sample's shards from an S3 server, moto's from PyPI, and holds them against the files.

usage: pip install 'moto[s3,server]' boto3 && python scripts/data/s3.py
"""

import os
import pathlib
import subprocess
import sys

import boto3
from moto.server import ThreadedMotoServer

ROOT = pathlib.Path(__file__).resolve().parents[2]

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
server.start()
host, port = server.get_host_and_port()
endpoint = f"http://127.0.0.1:{port}"
s3 = boto3.client(
    "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="testing", aws_secret_access_key="testing"
)
s3.create_bucket(Bucket="jest-test")
for shard in sorted((ROOT / "assets/sample/train").glob("*.tar.gz")):
    s3.upload_file(str(shard), "jest-test", f"train/{shard.name}")
environment = {
    "AWS_ENDPOINT": endpoint,
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "us-east-1",
}
local = f"train={ROOT}/assets/sample/train/{{000000..000003}}.tar.gz"
remote = "train=s3://jest-test/train/{000000..000003}.tar.gz"
command = ["cargo", "run", "--release", "-p", "jest-data", "--features", "remote", "--example", "same", "--"]
code = subprocess.run([*command, local, remote], cwd=ROOT, env={**os.environ, **environment}).returncode
server.stop()
sys.exit(code)
