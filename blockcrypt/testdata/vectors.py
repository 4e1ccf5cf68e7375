#!/usr/bin/python3
"""Writes the test vectors of docs/FORMAT.md, sections 2 to 4, beside itself.

Independent of the Go code: written from the format's text, on top of
python3-cryptography (OpenSSL). Output is deterministic: inputs come from
SHAKE-256 of a label. One JSON file per class; every case has a name and the
outcome that a reader must report:

    ok          opens, and sealing with the given nonce gives the same bytes
    auth        not authentic
    commitment  the key is not the one committed to
    short       malformed: too short
    format      malformed otherwise
    size        the caller's length or parameter is out of range

Usage: vectors.py [DIRECTORY]
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

FORMAT = 1
SUITE = 1
KIND_BLOCK, KIND_INLINE, KIND_CODED_BLOCK, KIND_CODED_INLINE = 1, 2, 3, 4


def draw(label, n):
    return hashlib.shake_256(b"kmsfs vector " + label.encode()).digest(n)


def u(fmt, *values):
    return struct.pack(">" + fmt, *values)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def aes_block(key, block):
    e = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return e.update(block) + e.finalize()


def hkdf(secret, salt, info):
    return HKDF(algorithm=hashes.SHA512(), length=32, salt=salt or None, info=info).derive(secret)


# ---- derivations -----------------------------------------------------------

def info(purpose, label, context):
    return purpose + u("B", FORMAT) + u("H", len(label)) + label.encode() + context


def derive(secret, label, context):
    return hkdf(secret, b"", info(b"kmsfs key", label, context))


def commit(secret, label, context):
    return hkdf(secret, b"", info(b"kmsfs commitment", label, context))


def derivations():
    volume = draw("volume", 16)
    cases = []
    for name, label, context in [
        ("superblock mac key", "superblock mac", volume),
        ("volume seal key", "volume seal", volume),
        ("zone wrap key", "zone wrap", volume + u("Q", 1)),
        ("zone wrap key of another zone", "zone wrap", volume + u("Q", 2**64 - 1)),
        ("names seal key", "names seal", volume + u("Q", 1)),
        ("names hash key", "names hash", volume + u("Q", 1)),
        ("journal segment key", "journal segment", volume + draw("salt", 16) + u("Q", 7)),
        ("empty context", "label", b""),
        ("label of one byte", "l", b"abel"),
        ("empty label", "", b"x"),
    ]:
        secret = draw("secret " + name, 32)
        case = dict(name=name, outcome="ok" if label else "size", secret=secret.hex(), label=label, context=context.hex())
        if label:
            case["key"] = derive(secret, label, context).hex()
        cases.append(case)
    return cases


def commitments():
    volume = draw("volume", 16)
    cases = []
    for name, label, context in [
        ("volume key", "volume", volume),
        ("zone key", "zone", volume + u("Q", 1)),
    ]:
        key = draw("commit " + name, 32)
        c = commit(key, label, context)
        base = dict(label=label, context=context.hex())
        cases.append(dict(base, name=name, outcome="ok", key=key.hex(), commitment=c.hex()))
        other = bytes([key[0] ^ 1]) + key[1:]
        cases.append(dict(base, name=name + ", one bit off", outcome="commitment", key=other.hex(), commitment=c.hex()))
        # A derived key must not pass for a commitment.
        cases.append(dict(base, name=name + ", derived key instead", outcome="commitment", key=key.hex(),
                          commitment=derive(key, label, context).hex()))
    return cases


# ---- blocks ----------------------------------------------------------------

def pattern(n):
    return bytes((7 * i + i // 256) & 0xFF for i in range(n))


def block_keys(dek, volume, inode, epoch):
    salt = volume + u("QI", inode, epoch)
    return (hkdf(dek, salt, info(b"kmsfs key", "block", u("B", SUITE))),
            hkdf(dek, salt, info(b"kmsfs commitment", "block", u("B", SUITE))))


def block_aad(kind, block_size, volume, inode, epoch, index, n):
    return u("BBBB", FORMAT, SUITE, kind, block_size.bit_length() - 1) + volume + u("QIQI", inode, epoch, index, n)


class File:
    def __init__(self, label, inode, epoch, block_size):
        self.dek = draw("dek " + label, 32)
        self.volume = draw("volume", 16)
        self.inode, self.epoch, self.block_size = inode, epoch, block_size

    def common(self):
        key, commitment = block_keys(self.dek, self.volume, self.inode, self.epoch)
        return dict(dek=self.dek.hex(), volume=self.volume.hex(), inode=self.inode, epoch=self.epoch,
                    block_size=self.block_size, block_key=key.hex(), commitment=commitment.hex())

    def seal(self, kind, index, plain, nonce, coding=b""):
        key, _ = block_keys(self.dek, self.volume, self.inode, self.epoch)
        aad = block_aad(kind, self.block_size, self.volume, self.inode, self.epoch, index, len(plain)) + coding
        out = AESGCM(key).encrypt(nonce, plain, aad)
        return aad, out[:-16], out[-16:]


def block_case(name, f, index, plain):
    nonce = draw("nonce " + name, 12)
    aad, ct, tag = f.seal(KIND_BLOCK, index, plain, nonce)
    case = dict(f.common(), name=name, outcome="ok", index=index, nonce=nonce.hex(), aad=aad.hex(),
                tag=tag.hex(), crc=crc32c(ct))
    if len(plain) <= 64:
        case.update(plain=plain.hex(), ciphertext=ct.hex())
    else:  # plain[i] = (7 i + i / 256) mod 256
        case.update(plain_pattern=len(plain), ciphertext_sha256=hashlib.sha256(ct).hexdigest())
    return case


def flip(h, at=0):
    b = bytearray.fromhex(h)
    b[at] ^= 0x80
    return b.hex()


def blocks():
    small = File("small", 42, 1, 4096)
    cases = [
        block_case("one byte", small, 0, b"\x00"),
        block_case("fifteen bytes", small, 1, pattern(15)),
        block_case("one less than a block", small, 2, pattern(4095)),
        block_case("a whole block", small, 3, pattern(4096)),
        block_case("last index, inode and epoch", File("max", 2**64 - 1, 2**32 - 1, 4096), 2**64 - 1, pattern(33)),
        block_case("block of 64 KiB", File("64k", 42, 2, 65536), 9, pattern(65536)),
        block_case("block of 1 MiB, short", File("1m", 43, 1, 1 << 20), 0, pattern(17)),
    ]
    good = block_case("good", small, 5, pattern(32))
    for name, change in [
        ("another index", dict(index=6)),
        ("first byte of ciphertext changed", dict(ciphertext=flip(good["ciphertext"]))),
        ("last byte of ciphertext changed", dict(ciphertext=flip(good["ciphertext"], -1))),
        ("tag changed", dict(tag=flip(good["tag"], -1))),
        ("nonce changed", dict(nonce=flip(good["nonce"]))),
        ("last byte cut off", dict(ciphertext=good["ciphertext"][:-2])),
        ("a byte more", dict(ciphertext=good["ciphertext"] + "00")),
        ("another block size", dict(block_size=8192)),
    ]:
        cases.append(dict(good, **change, name=name, outcome="auth"))
    cases.append(dict(good, name="empty", outcome="size", ciphertext="", plain=""))
    for name, change in [
        ("another volume", dict(volume=flip(good["volume"]))),
        ("another inode", dict(inode=43)),
        ("another epoch", dict(epoch=2)),
        ("another data key", dict(dek=flip(good["dek"]))),
    ]:
        cases.append(dict(good, **change, name=name, outcome="commitment"))
    nonce = draw("nonce inline as block", 12)
    _, ct, tag = small.seal(KIND_INLINE, 0, pattern(20), nonce)
    cases.append(dict(good, name="inline content as block 0", outcome="auth", index=0, nonce=nonce.hex(),
                      ciphertext=ct.hex(), tag=tag.hex()))
    return cases


def inlines():
    f = File("inline", 77, 3, 4096)
    cases = []
    for name, plain in [("empty", b""), ("one byte", b"x"), ("a sentence", b"Nothing to see here.")]:
        nonce = draw("nonce inline " + name, 12)
        aad, ct, tag = f.seal(KIND_INLINE, 0, plain, nonce)
        cases.append(dict(f.common(), name=name, outcome="ok", aad=aad.hex(), plain=plain.hex(),
                          sealed=(nonce + ct + tag).hex()))
    good = cases[-1]
    for name, outcome, change in [
        ("nonce changed", "auth", dict(sealed=flip(good["sealed"]))),
        ("ciphertext changed", "auth", dict(sealed=flip(good["sealed"], 12))),
        ("tag changed", "auth", dict(sealed=flip(good["sealed"], -1))),
        ("last byte cut off", "auth", dict(sealed=good["sealed"][:-2])),
        ("27 bytes", "short", dict(sealed=good["sealed"][:54])),
        ("nothing", "short", dict(sealed="")),
        ("another inode", "commitment", dict(inode=78)),
    ]:
        cases.append(dict(good, **change, name=name, outcome=outcome))
    nonce = draw("nonce block as inline", 12)
    _, ct, tag = f.seal(KIND_BLOCK, 0, b"a block", nonce)
    cases.append(dict(good, name="block 0 as inline content", outcome="auth", sealed=(nonce + ct + tag).hex()))
    return cases


def coded_case(name, f, kind, index, codec, stands_for, coded):
    nonce = draw("nonce " + name, 12)
    aad, ct, tag = f.seal(kind, index, coded, nonce, u("BI", codec, stands_for))
    return dict(f.common(), name=name, outcome="ok", kind="inline" if kind == KIND_CODED_INLINE else "block", index=index,
                codec=codec, stands_for=stands_for, nonce=nonce.hex(), aad=aad.hex(), plain=coded.hex(),
                ciphertext=ct.hex(), tag=tag.hex(), crc=crc32c(ct))


def coded():
    """Compressed content; what is sealed need not be a frame."""
    f = File("coded", 99, 2, 65536)
    cases = [
        coded_case("block", f, KIND_CODED_BLOCK, 7, 2, 65536, pattern(40)),
        coded_case("block of another codec", f, KIND_CODED_BLOCK, 7, 1, 65536, pattern(40)),
        coded_case("one byte for two", f, KIND_CODED_BLOCK, 2**40, 1, 2, b"x"),
        coded_case("inline", f, KIND_CODED_INLINE, 0, 2, 3000, pattern(50)),
    ]
    for good in (cases[0], cases[3]):
        for name, outcome, change in [
            ("another codec", "auth", dict(codec=1)),
            ("another length", "auth", dict(stands_for=2999)),
            ("ciphertext changed", "auth", dict(ciphertext=flip(good["ciphertext"], 5))),
            ("tag changed", "auth", dict(tag=flip(good["tag"]))),
            ("codec 0", "size", dict(codec=0)),
            ("as long as what it stands for", "size", dict(stands_for=len(good["plain"]) // 2)),
            ("for more than may be", "size", dict(stands_for=65537)),
        ]:
            cases.append(dict(good, **change, name=good["kind"] + ", " + name, outcome=outcome))
    good = cases[0]
    cases.append(dict(good, name="another index", outcome="auth", index=8))
    nonce = draw("nonce block as coded", 12)
    _, ct, tag = f.seal(KIND_BLOCK, 7, pattern(40), nonce)
    cases.append(dict(good, name="not coded, as coded", outcome="auth", nonce=nonce.hex(), ciphertext=ct.hex(), tag=tag.hex()))
    cases.append(dict(cases[3], name="coded block as inline", outcome="auth", nonce=good["nonce"], ciphertext=good["ciphertext"], tag=good["tag"]))
    return cases


# ---- sealed rows and wraps -------------------------------------------------

def xaes_subkey(key, nonce):
    l = int.from_bytes(aes_block(key, bytes(16)), "big")
    k1 = (l << 1 & (1 << 128) - 1) ^ (0x87 if l >> 127 else 0)

    def half(i):
        m = int.from_bytes(bytes([0, i]) + b"X\x00" + nonce[:12], "big")
        return aes_block(key, (m ^ k1).to_bytes(16, "big"))
    return k1.to_bytes(16, "big"), half(1) + half(2)


def xaes(key, nonce, plain, aad):
    _, sub = xaes_subkey(key, nonce)
    return nonce + AESGCM(sub).encrypt(nonce[12:], plain, aad)


def sealed_messages():
    cases = []
    for name, key, nonce, plain, aad in [
        ("c2sp 1", b"\x01" * 32, b"ABCDEFGHIJKLMNOPQRSTUVWX", b"XAES-256-GCM", b""),
        ("c2sp 2", b"\x03" * 32, b"ABCDEFGHIJKLMNOPQRSTUVWX", b"XAES-256-GCM", b"c2sp.org/XAES-256-GCM"),
        ("empty", draw("x0", 32), draw("x0n", 24), b"", b""),
        ("300 bytes", draw("x1", 32), draw("x1n", 24), pattern(300), draw("x1a", 77)),
    ]:
        k1, sub = xaes_subkey(key, nonce)
        cases.append(dict(name=name, outcome="ok", key=key.hex(), aad=aad.hex(), plain=plain.hex(),
                          k1=k1.hex(), subkey=sub.hex(), sealed=xaes(key, nonce, plain, aad).hex()))
    good = cases[1]
    for name, outcome, change in [
        ("first half of the nonce changed", "auth", dict(sealed=flip(good["sealed"]))),
        ("second half of the nonce changed", "auth", dict(sealed=flip(good["sealed"], 12))),
        ("ciphertext changed", "auth", dict(sealed=flip(good["sealed"], 24))),
        ("tag changed", "auth", dict(sealed=flip(good["sealed"], -1))),
        ("other associated data", "auth", dict(aad=flip(good["aad"]))),
        ("no associated data", "auth", dict(aad="")),
        ("another key", "auth", dict(key=flip(good["key"]))),
        ("last byte cut off", "auth", dict(sealed=good["sealed"][:-2])),
        ("39 bytes", "short", dict(sealed=good["sealed"][:78])),
        ("nothing", "short", dict(sealed="")),
    ]:
        cases.append(dict(good, **change, name=name, outcome=outcome))
    return cases


def row_aad(volume, key):
    return b"kmsfs row" + u("B", FORMAT) + volume + key


def rows():
    key, volume = draw("rows key", 32), draw("volume", 16)
    row_key, value = b"A" + u("Q", 42), b"an inode"
    good = dict(name="inode row", outcome="ok", key=key.hex(), volume=volume.hex(), row_key=row_key.hex(),
                value=value.hex(), aad=row_aad(volume, row_key).hex(),
                sealed=xaes(key, draw("row nonce", 24), value, row_aad(volume, row_key)).hex())
    cases = [good]
    for name, change in [
        ("under another row key", dict(row_key=(b"A" + u("Q", 43)).hex())),
        ("under a longer row key", dict(row_key=(row_key + b"\x00").hex())),
        ("in another volume", dict(volume=flip(volume.hex()))),
        ("under another key", dict(key=flip(key.hex()))),
    ]:
        cases.append(dict(good, **change, name=name, outcome="auth"))
    return cases


def dek_aad(volume, zone, parent, tag, inode, epoch):
    return b"kmsfs dek" + u("B", FORMAT) + volume + u("QQ", zone, parent) + tag + u("QI", inode, epoch)


def wraps():
    key, secret = draw("zone wrap key", 32), draw("wrapped", 32)
    place = dict(volume=draw("volume", 16).hex(), zone=1, parent=2, name_tag=draw("tag", 16).hex(), inode=42, epoch=1)
    aad = dek_aad(bytes.fromhex(place["volume"]), 1, 2, bytes.fromhex(place["name_tag"]), 42, 1)
    wrap = xaes(key, draw("wrap nonce", 24), secret, aad).hex()
    good = dict(place, name="data key", outcome="ok", kind="dek", key=key.hex(), secret=secret.hex(),
                aad=aad.hex(), wrap=wrap)
    cases = [good]
    for name, outcome, change in [
        ("another volume", "auth", dict(volume=flip(place["volume"]))),
        ("another zone", "auth", dict(zone=2)),
        ("another directory", "auth", dict(parent=3)),
        ("another name", "auth", dict(name_tag=flip(place["name_tag"]))),
        ("another inode", "auth", dict(inode=43)),
        ("another epoch", "auth", dict(epoch=2)),
        ("another wrap key", "auth", dict(key=flip(key.hex()))),
        ("changed", "auth", dict(wrap=flip(wrap, 30))),
        ("as a names key", "auth", dict(kind="names")),
        ("71 bytes", "short", dict(wrap=wrap[:-2])),
        ("73 bytes", "format", dict(wrap=wrap + "00")),
        ("nothing", "short", dict(wrap="")),
    ]:
        cases.append(dict(good, **change, name=name, outcome=outcome))
    aad = b"kmsfs names key" + u("B", FORMAT) + bytes.fromhex(place["volume"]) + u("Q", 1)
    cases.append(dict(good, name="names key", kind="names", aad=aad.hex(),
                      wrap=xaes(key, draw("names wrap nonce", 24), secret, aad).hex()))
    return cases


# ---- names, ids, contexts --------------------------------------------------

def names():
    cases = []
    for name, kind, parent, text in [
        ("in the root", 1, 1, b"hello.txt"),
        ("the same name as an attribute", 2, 1, b"hello.txt"),
        ("in another directory", 1, 2, b"hello.txt"),
        ("255 bytes, not UTF-8", 1, 2**64 - 1, b"\xff" * 255),
        ("empty", 1, 1, b""),
    ]:
        key = draw("names hash key", 32)
        tag = hmac.new(key, u("BQ", kind, parent) + text, hashlib.sha256).digest()[:16]
        cases.append(dict(name=name, outcome="ok", key=key.hex(), kind=kind, parent=parent, text=text.hex(), tag=tag.hex()))
    return cases


def object_ids():
    key = draw("objects key", 32)
    cases = []
    for inode, serial in [(1, 1), (42, 1), (42, 2), (2**64 - 1, 2**64 - 1), (0, 0)]:
        cases.append(dict(name="inode %d serial %d" % (inode, serial), outcome="ok", key=key.hex(), inode=inode,
                          serial=serial, id=aes_block(key, u("QQ", inode, serial)).hex()))
    for name, text in [("upper case", cases[0]["id"].upper()), ("31 digits", cases[0]["id"][1:]), ("nothing", ""),
                       ("33 digits", cases[0]["id"] + "0"), ("a slash", "/" + cases[0]["id"][1:]),
                       ("temporary name", cases[0]["id"][:-4] + ".tmp")]:
        cases.append(dict(cases[0], name=name, outcome="format", id=text))
    return cases


def context_bytes(pairs):
    out = u("H", len(pairs))
    for k, v in pairs:
        out += u("H", len(k)) + k + u("H", len(v)) + v
    return out


def contexts():
    cases = []
    for name, context in [
        ("empty", {}),
        ("two pairs", {"user": "bob", "a": "1"}),
        ("border 1", {"a": "bc"}),
        ("border 2", {"ab": "c"}),
        ("empty value", {"a": ""}),
        ("case matters", {"A": "1", "a": "2"}),
        ("bytes, not UTF-16 units", {"\U00010000": "astral", "\uff5e": "bmp"}),
        ("zone", {"kmsfs:zone": "1", "kmsfs:volume": draw("volume", 16).hex(), "kmsfs:dir": "1", "kmsfs:name": "a b"}),
    ]:
        pairs = sorted((k.encode(), v.encode()) for k, v in context.items())
        cases.append(dict(name=name, outcome="ok", context=context, encoding=context_bytes(pairs).hex() if pairs else ""))
    for name, outcome, encoding in [
        ("count zero", "format", b"\x00\x00"),
        ("not ascending", "format", context_bytes([(b"b", b""), (b"a", b"")])),
        ("twice the same key", "format", context_bytes([(b"a", b"1"), (b"a", b"2")])),
        ("empty key", "format", context_bytes([(b"", b"1")])),
        ("key not UTF-8", "format", context_bytes([(b"\xff", b"1")])),
        ("value not UTF-8", "format", context_bytes([(b"a", b"\xc0\x80")])),
        ("left over", "format", context_bytes([(b"a", b"1")]) + b"\x00"),
        ("one byte", "short", b"\x00"),
        ("value missing", "short", context_bytes([(b"a", b"1")])[:-1]),
        ("count too large", "short", b"\x00\x02" + context_bytes([(b"a", b"1")])[2:]),
        ("length beyond the end", "short", b"\x00\x01\xff\xffa"),
        ("8193 bytes", "format", context_bytes([(b"a", b"x" * 8186)])),
    ]:
        cases.append(dict(name=name, outcome=outcome, encoding=encoding.hex()))
    return cases


CLASSES = dict(derive=derivations, commitment=commitments, block=blocks, inline=inlines, coded=coded, xaes=sealed_messages,
               row=rows, wrap=wraps, name=names, objectid=object_ids, context=contexts)


def main():
    directory = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    for name, make in CLASSES.items():
        with open(os.path.join(directory, name + ".json"), "w", encoding="ascii") as f:
            json.dump(make(), f, indent=1)
            f.write("\n")


if __name__ == "__main__":
    main()
