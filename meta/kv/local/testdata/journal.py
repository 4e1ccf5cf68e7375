#!/usr/bin/python3
"""Writes journal.json beside itself: the rows of a Badger database and three segments, as
docs/FORMAT.md 8 and 9 describe them, and what a reader must find in them.

Independent of the Go code, on top of python3-cryptography (OpenSSL). Output is
deterministic: inputs come from SHAKE-256 of a label. Segments are given up to
their last byte that is not zero.

Usage: journal.py [DIRECTORY]
"""

import hashlib
import hmac
import json
import os
import struct
import sys

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SEGMENT_SIZE = 16384
STAMP = 9  # Badger's timestamp of the checkpoint


def draw(label, n):
    return hashlib.shake_256(b"kmsfs journal " + label.encode()).digest(n)


def u(fmt, *values):
    return struct.pack(">" + fmt, *values)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def derive(secret, label, context):
    info = b"kmsfs key" + u("B", 1) + u("H", len(label)) + label.encode() + context
    return HKDF(algorithm=hashes.SHA512(), length=32, salt=None, info=info).derive(secret)


def gmac(key, number, message):
    return AESGCM(key).encrypt(u("IQ", 0, number), b"", message)


def put(key, value):
    return u("BHI", 1, len(key), len(value)) + key + value


def delete(key):
    return u("BH", 2, len(key)) + key


def image(key, offset, length):
    return u("BHII", 3, len(key), offset, length) + key


def xaes(key, nonce, plaintext, aad):
    """C2SP XAES-256-GCM."""
    ecb = Cipher(algorithms.AES(key), modes.ECB())

    def aes(block):
        e = ecb.encryptor()
        return e.update(block) + e.finalize()

    low = int.from_bytes(aes(bytes(16)), "big")
    k1 = (low << 1 & (1 << 128) - 1) ^ (0x87 if low >> 127 else 0)

    def sub(i):
        m = int.from_bytes(bytes([0, i]) + b"X\0" + nonce[:12], "big")
        return aes((m ^ k1).to_bytes(16, "big"))

    return nonce + AESGCM(sub(1) + sub(2)).encrypt(nonce[12:], plaintext, aad)


def table(rows, starts):
    """The freshness table of rows, cut at the given starts: its two driver rows and the root's tag."""
    mac = derive(KEY, "freshness hash", VOLUME)
    seal = derive(KEY, "freshness table", VOLUME)
    body = b""
    for i, start in enumerate(starts):
        end = starts[i + 1] if i + 1 < len(starts) else b"\xff" * 8
        total, count = 0, 0
        for k, v in rows.items():
            if start <= k < end:
                h = hmac.new(mac, u("H", len(k)) + k + v, hashlib.sha256).digest()[:16]
                total ^= int.from_bytes(h, "big")
                count += 1
        body += u("H", len(start)) + start + u("I", count) + total.to_bytes(16, "big")
    chunk_key = b"\0F" + u("I", 0)
    chunk = xaes(seal, draw("chunk nonce", 24), u("BH", 1, len(starts)) + body, chunk_key)
    root = xaes(seal, draw("root nonce", 24), u("BII", 1, 1, 1) + u("H", 0) + u("I", 0) + chunk[-16:], b"\0root")
    return {chunk_key: chunk, b"\0root": root}, root[-16:]


VOLUME = draw("volume", 16)
KEY = draw("journal key", 32)


class Segment:
    def __init__(self, number, generation, first, previous):
        salt = draw("salt %d" % number, 16)
        self.key = derive(KEY, "journal segment", VOLUME + salt + u("Q", number))
        head = b"kmsfsjnl" + u("II", 1, 0) + VOLUME + u("QQ", number, generation) + salt + u("Q", first) + previous
        assert len(head) == 88
        self.bytes = (head + gmac(self.key, 0, head)).ljust(512, b"\0")
        self.next, self.tag = first, previous

    def record(self, ops, blob=b""):
        ops = b"".join(ops)
        head = u("IIQII", len(ops), len(blob), self.next, crc32c(blob) if blob else 0, 0)
        self.tag = gmac(self.key, self.next, self.tag + head + ops)
        self.bytes += head + ops + self.tag + blob
        self.next += 1
        return self.tag


def main():
    first = Segment(5, 2, 1, bytes(16))
    tags = [bytes(16)]
    tags.append(first.record([put(b"A1", b"one"), put(b"A2", b"two")]))
    tags.append(first.record([put(b"A3", b"three"), delete(b"A2")]))
    tags.append(first.record([put(b"A1", b"ONE"), delete(b"never there")]))
    # The checkpoint is here. What follows is for recovery.
    tags.append(first.record([put(b"A4", draw("value", 300))]))
    whole = len(first.bytes)
    first.record([put(b"A5", b"torn")])
    first.bytes = first.bytes[: whole + 40]
    # An opening that died before its first record, and the one after it.
    empty = Segment(6, 3, 5, tags[4])
    last = Segment(7, 4, 5, tags[4])
    picture, other = draw("image", 700), draw("other image", 50)
    tags.append(last.record([image(b"B1", 0, 700), put(b"C1", b"entry"), image(b"B2", 700, 50)], picture + other))
    tags.append(last.record([delete(b"A3"), delete(b"B2"), put(b"A1", b"eins")]))

    rows = {b"A1": b"ONE", b"A3": b"three"}
    badger, root = table(rows, [b"", b"A2"])
    row = u("BBHQQ", 1, 0, 0, 2, 3) + tags[3] + u("Q", STAMP) + root + u("QH", 0, 2) + u("Q", 1) + tags[1] + u("Q", 2) + tags[2]
    row += hmac.new(derive(KEY, "checkpoint row", VOLUME), row, hashlib.sha256).digest()
    badger.update(rows)
    badger[b"\0checkpoint"] = row

    out = dict(
        volume=VOLUME.hex(),
        key=KEY.hex(),
        segment_size=SEGMENT_SIZE,
        stamp=STAMP,
        badger={k.hex(): v.hex() for k, v in sorted(badger.items())},
        segments=[s.bytes.rstrip(b"\0").hex() for s in (first, empty, last)],
        recovered={"A1": b"eins".hex(), "A4": draw("value", 300).hex(), "B1": picture.hex(), "C1": b"entry".hex()},
        records=3,
        generation=5,
        sequence=6,
        tags=[t.hex() for t in tags],
    )
    directory = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(directory, "journal.json"), "w") as f:
        json.dump(out, f, indent=1)
        f.write("\n")


main()
