#!/usr/bin/env python3
"""Writes vectors.json: rows, alias tags, ciphertext blobs and wrapped store keys as docs/FORMAT.md section 10 describes them.

Shares no code with the implementation. Needs the Python package cryptography. Everything is fixed: running it again changes nothing.
"""
import hashlib
import hmac
import json
import os
import struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def draw(label, n):
    return hashlib.shake_256(("kmsfs key store vector " + label).encode()).digest(n)


def ecb(key, block):
    e = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return e.update(block) + e.finalize()


def xaes(key, nonce, plain, aad):
    top = int.from_bytes(ecb(key, bytes(16)), "big")
    k1 = (top << 1) & (2**128 - 1)
    if top >> 127:
        k1 ^= 0x87
    sub = b""
    for half in (1, 2):
        m = int.from_bytes(bytes([0, half]) + b"X\0" + nonce[:12], "big") ^ k1
        sub += ecb(key, m.to_bytes(16, "big"))
    return AESGCM(sub).encrypt(nonce[12:], plain, aad)


def derive(secret, label, context):
    info = b"kmsfs key" + b"\x01" + struct.pack(">H", len(label)) + label + context
    return HKDF(hashes.SHA512(), 32, None, info).derive(secret)


def encode_context(pairs):
    if not pairs:
        return b""
    out = struct.pack(">H", len(pairs))
    for k, v in sorted((k.encode(), v.encode()) for k, v in pairs.items()):
        out += struct.pack(">H", len(k)) + k + struct.pack(">H", len(v)) + v
    return out


def sealed(mechanism, key, plain, aad, label):
    if mechanism == "AES-GCM":
        iv = draw(label + " iv", 12)
        return b"\x01" + iv + AESGCM(key).encrypt(iv, plain, aad)
    iv = draw(label + " iv", 24)
    return b"\x02" + iv + xaes(key, iv, plain, aad)


STORE_KEY = draw("store key", 32)
ID = draw("id", 16)


def row(name, key, plain):
    aad = b"kmsfs keystore row" + b"\x01" + ID + key
    nonce = draw(name + " nonce", 24)
    value = b"\x01" + nonce + xaes(derive(STORE_KEY, b"keystore rows", ID), nonce, plain, aad)
    return {"name": name, "key": key.hex(), "aad": aad.hex(), "plain": plain.decode(), "value": value.hex()}


def alias(name):
    tag = hmac.new(derive(STORE_KEY, b"keystore names", ID), b"a" + bytes(8) + name.encode(), hashlib.sha256).digest()[:16]
    return {"alias": name, "key": (b"a" + tag).hex()}


def blob(name, mechanism, plain, context):
    key, material = draw(name + " key", 32), draw(name + " material", 32)
    enc = encode_context(context)
    aad = b"kmsfs blob" + b"\x01" + material + struct.pack(">I", len(enc)) + enc
    out = b"\x01" + material + sealed(mechanism, key, plain, aad, name)
    return {"name": name, "mechanism": mechanism, "key": key.hex(), "token_key": material[:16].hex(), "material": material.hex(),
            "context": context, "aad": aad.hex(), "plain": plain.hex(), "blob": out.hex()}


def store_key(name, mechanism):
    root = draw(name + " root", 32)
    aad = b"kmsfs store key" + b"\x01" + encode_context({"kmsfs:keystore": ID.hex()})
    return {"name": name, "mechanism": mechanism, "root": root.hex(), "aad": aad.hex(), "sealed": sealed(mechanism, root, STORE_KEY, aad, name).hex()}


def main():
    out = {
        "store_key": STORE_KEY.hex(),
        "id": ID.hex(),
        "journal_key": derive(STORE_KEY, b"keystore journal", ID).hex(),
        "rows": [
            row("info", b"i", b'{"created":"2026-01-02T03:04:05Z"}'),
            row("anchor", b"n" + draw("volume", 16), b'{"generation":1,"sequence":2,"head":"00112233445566778899aabbccddeeff","clean":true}'),
            row("uses", b"u" + draw("material", 32), b'{"reserved":16384}'),
        ],
        "aliases": [alias("alias/x"), alias("alias/volume-1")],
        "blobs": [
            blob("short", "AES-GCM", b"p", {}),
            blob("data key", "AES-GCM", draw("data key plain", 32), {"kmsfs:volume": "00" * 16, "kmsfs:zone": "1", "user": "böb", "a": ""}),
            blob("extended nonce", "XAES-256-GCM", draw("data key plain", 32), {"ab": "c"}),
            blob("longest", "XAES-256-GCM", draw("long", 4096), {"a": "bc"}),
        ],
        "store_keys": [store_key("in PKCS#11", "AES-GCM"), store_key("in soft", "XAES-256-GCM")],
    }
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "vectors.json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(out, f, indent=1, ensure_ascii=False)
        f.write("\n")


if __name__ == "__main__":
    main()
