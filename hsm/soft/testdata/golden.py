#!/usr/bin/env python3
"""Writes golden soft tokens as docs/FORMAT.md section 10 describes them.

Shares no code with the implementation. Needs the Python package cryptography, 44
or newer. Everything is fixed, so running it again changes nothing:

    python3 golden.py     writes golden/ beside this file
"""
import json
import os
import struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden")
INFO = b"kmsfs soft token unlock v1"


def fixed(n, start):
    """n bytes that can be recognised."""
    return bytes((start + i) % 256 for i in range(n))


def ecb(key, block):
    e = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return e.update(block) + e.finalize()


def xaes_seal(key, nonce, plain, aad):
    """XAES-256-GCM (C2SP): the ciphertext and its tag."""
    top = int.from_bytes(ecb(key, bytes(16)), "big")
    k1 = (top << 1) & (2**128 - 1)
    if top >> 127:
        k1 ^= 0x87
    sub = b""
    for half in (1, 2):
        m = int.from_bytes(bytes([0, half]) + b"X\0" + nonce[:12], "big") ^ k1
        sub += ecb(key, m.to_bytes(16, "big"))
    return AESGCM(sub).encrypt(nonce[12:], plain, aad)


def unlock_passphrase(secret, salt):
    prk = Argon2id(salt=salt, length=64, iterations=3, lanes=4, memory_cost=65536).derive(secret)
    return HKDFExpand(hashes.SHA512(), 40, INFO).derive(prk)


def unlock_key_file(secret, salt):
    return HKDF(hashes.SHA512(), 40, salt, INFO).derive(secret)


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)


def token(name, method, secret, start):
    serial, salt, root, key = fixed(16, start), fixed(16, start + 16), fixed(32, start + 32), fixed(32, start + 64)
    key_id, created, label = fixed(16, start + 96), 1767225600, "golden schlüssel".encode()
    by, cost, derive = {
        "passphrase": (1, (65536, 3, 4), unlock_passphrase),
        "key-file": (2, (0, 0, 0), unlock_key_file),
    }[method]
    okm = derive(secret, salt)
    aad = b"kmsfs soft token\0\1" + serial + struct.pack(">QB", created, by) + salt + struct.pack(">IIB", *cost)
    nonce = fixed(24, start + 112)
    unlock = {"method": method, "kdf": "argon2id" if by == 1 else "hkdf-sha512", "salt": salt.hex()}
    if by == 1:
        unlock.update(memoryKiB=cost[0], passes=cost[1], lanes=cost[2])
    head = {
        "format": "kmsfs soft token", "version": 1, "serial": serial.hex(), "created": "2026-01-01T00:00:00Z",
        "unlock": unlock, "check": okm[32:].hex(), "root": (nonce + xaes_seal(okm[:32], nonce, root, aad)).hex(),
    }
    write(f"{HERE}/{name}/token.json", json.dumps(head, indent=2).encode() + b"\n")

    khead = b"kmsfskey\1" + key_id + struct.pack(">QH", created, len(label)) + label
    nonce = fixed(24, start + 136)
    write(f"{HERE}/{name}/keys/{key_id.hex()}.key", khead + nonce + xaes_seal(root, nonce, key, khead))

    nonce, plain, aad = fixed(24, start + 160), b"golden secret", b"golden context"
    write(f"{HERE}/{name}.json", json.dumps({
        "method": method, "secret": secret.hex(), "serial": serial.hex(), "key": key_id.hex(), "label": label.decode(),
        "check_value": ecb(key, bytes(16))[:3].hex(), "plain": plain.hex(), "aad": aad.hex(), "iv": nonce.hex(),
        "ciphertext": xaes_seal(key, nonce, plain, aad).hex(),
    }, indent=2).encode() + b"\n")


token("v1-passphrase", "passphrase", "correct horse battery staple".encode(), 0)
token("v1-keyfile", "key-file", fixed(32, 200), 7)
