# Validates an exported bucket with AWS' own classes (awscli, cloudtrail validate-logs), S3 and CloudTrail being directories.
import json, os, sys, datetime
from awscli.customizations.cloudtrail import validation as v

root = sys.argv[1]
start, end = (datetime.datetime.fromisoformat(x) for x in sys.argv[2:4])

class Body:
    def __init__(self, data): self.data, self.at = data, 0
    def read(self, n=None):
        out = self.data[self.at:] if n is None else self.data[self.at:self.at + n]
        self.at += len(out)
        return out

class Pages:
    def __init__(self, keys): self.keys = keys
    def search(self, _): return iter(self.keys)

class S3:
    def get_object(self, Bucket, Key):
        path = os.path.join(root, Bucket, Key)
        meta = {}
        if os.path.exists(path + ".metadata.json"):
            meta = json.load(open(path + ".metadata.json"))
        return {"Body": Body(open(path, "rb").read()), "Metadata": meta}
    def get_paginator(self, _): return self
    def paginate(self, Bucket, Marker="", Prefix=""):
        keys = []
        for d, _, files in os.walk(os.path.join(root, Bucket)):
            for f in files:
                key = os.path.relpath(os.path.join(d, f), os.path.join(root, Bucket))
                if key.startswith(Prefix) and key > Marker and f.endswith(".gz"):
                    keys.append(key)
        return Pages(sorted(keys))

class Provider:
    def get_client(self, _): return S3()

class Keys:
    def get_public_keys(self, a, b):
        k = json.load(open(os.path.join(root, "public-key.json")))
        return {k["Fingerprint"]: k}

bad, digests, logs = [], 0, 0
traverser = v.DigestTraverser(
    digest_provider=v.DigestProvider(Provider(), "000000000000", "kmsfs", "local"), starting_bucket="kmsfs-audit", starting_prefix="", public_key_provider=Keys(),
    on_invalid=lambda **k: bad.append(k["message"]), on_gap=lambda **k: bad.append("gap"), on_missing=lambda **k: bad.append("missing digest"))
import hashlib, gzip
for digest in traverser.traverse(start, end) if hasattr(traverser, "traverse") else traverser.traverse_digests(start, end):
    digests += 1
    for log in digest["logFiles"]:
        logs += 1
        try:
            data = gzip.decompress(S3().get_object(log["s3Bucket"], log["s3Object"])["Body"].read())
        except OSError as e:
            bad.append(str(e)); continue
        if hashlib.sha256(data).hexdigest() != log["hashValue"]:
            bad.append("log " + log["s3Object"])
        json.loads(data)["Records"]
print(json.dumps({"bad": bad, "digests": digests, "logs": logs}))
