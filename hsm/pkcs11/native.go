//go:build cgo

package pkcs11

/*
#cgo linux LDFLAGS: -ldl
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

// The parts of PKCS#11 2.40 that are called here directly, not through
// miekg/pkcs11, because they handle secrets: that binding copies PIN and
// plaintext to C memory and frees it unwiped (and not at all when C_Decrypt
// fails), and asks the module for the length first, which is a second round trip.
typedef unsigned long ulong_t; // CK_ULONG, CK_RV and all handles

typedef struct {
	ulong_t mechanism;
	void *parameter;
	ulong_t parameter_len;
} mechanism_t;

typedef struct {
	unsigned char *iv;
	ulong_t iv_len, iv_bits;
	unsigned char *aad;
	ulong_t aad_len, tag_bits;
} gcm_params_t;

typedef struct {
	unsigned char major, minor;
	void *fn[68]; // the functions in the order of the specification
} function_list_t;

enum { FN_LOGIN = 18, FN_ENCRYPT_INIT = 29, FN_ENCRYPT = 30, FN_DECRYPT_INIT = 33, FN_DECRYPT = 34 };
enum { CKM_AES_ECB_ = 0x1081, CKM_AES_GCM_ = 0x1087 };

typedef ulong_t (*get_function_list_t)(function_list_t **);
typedef ulong_t (*login_t)(ulong_t, ulong_t, unsigned char *, ulong_t);
typedef ulong_t (*init_t)(ulong_t, mechanism_t *, ulong_t);
typedef ulong_t (*crypt_t)(ulong_t, unsigned char *, ulong_t, unsigned char *, ulong_t *);

// load opens a module and finds its function list; NULL, and why, if it cannot.
// dlerror's text is copied at once, as it belongs to the thread.
static function_list_t *load(const char *path, char *why, size_t why_len) {
	void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (lib == NULL) {
		strncpy(why, dlerror(), why_len - 1);
		return NULL;
	}
	get_function_list_t get = (get_function_list_t)dlsym(lib, "C_GetFunctionList");
	function_list_t *list = NULL;
	if (get == NULL || get(&list) != 0 || list == NULL) {
		strncpy(why, "not a PKCS#11 module: it has no usable C_GetFunctionList", why_len - 1);
		dlclose(lib);
		return NULL;
	}
	return list;
}

static ulong_t login(function_list_t *l, ulong_t session, ulong_t user, unsigned char *pin, ulong_t len) {
	return ((login_t)l->fn[FN_LOGIN])(session, user, pin, len);
}

// gcm encrypts or decrypts in one part. The module may write another IV of up to
// 64 bytes to iv, as some HSMs insist on; *iv_len is the length it then has.
static ulong_t gcm(function_list_t *l, int decrypt, ulong_t session, ulong_t key, unsigned char *iv, ulong_t *iv_len,
		unsigned char *aad, ulong_t aad_len, unsigned char *in, ulong_t in_len, unsigned char *out, ulong_t *out_len) {
	gcm_params_t p = {iv, *iv_len, *iv_len * 8, aad_len ? aad : NULL, aad_len, 128};
	mechanism_t m = {CKM_AES_GCM_, &p, sizeof p};
	ulong_t rv = ((init_t)l->fn[decrypt ? FN_DECRYPT_INIT : FN_ENCRYPT_INIT])(session, &m, key);
	if (rv == 0)
		rv = ((crypt_t)l->fn[decrypt ? FN_DECRYPT : FN_ENCRYPT])(session, in, in_len, out, out_len);
	*iv_len = p.iv_len;
	return rv;
}

// ecb encrypts blocks one by one.
static ulong_t ecb(function_list_t *l, ulong_t session, ulong_t key, unsigned char *in, ulong_t in_len, unsigned char *out, ulong_t *out_len) {
	mechanism_t m = {CKM_AES_ECB_, NULL, 0};
	ulong_t rv = ((init_t)l->fn[FN_ENCRYPT_INIT])(session, &m, key);
	if (rv == 0)
		rv = ((crypt_t)l->fn[FN_ENCRYPT])(session, in, in_len, out, out_len);
	return rv;
}
*/
import "C"

import (
	"fmt"
	"runtime"
	"unsafe"

	p11 "github.com/miekg/pkcs11"

	"github.com/kmsfs/kmsfs/hsm"
)

// native calls the functions of a module that handle secrets. PIN, plaintext and
// ciphertext stay in the memory that Go gave; what the module itself copies is
// its own affair. Against that, the worker process runs with a C library that
// overwrites freed memory (hsm/worker), is not dumpable, and is short of
// everything else. What the Go garbage collector moved or left unwiped on a stack
// cannot be reached either.
type native struct{ list *C.function_list_t }

// loadNative loads a module into the process, for good: unloading one that has
// threads or exit handlers crashes.
func loadNative(path string) (native, error) {
	cpath := append([]byte(path), 0)
	why := make([]byte, 256)
	list := C.load((*C.char)(unsafe.Pointer(&cpath[0])), (*C.char)(unsafe.Pointer(&why[0])), C.size_t(len(why)))
	if list == nil {
		return native{}, fmt.Errorf("%w: load %s: %s", hsm.ErrModule, path, cstring(why))
	}
	return native{list}, nil
}

func cstring(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// login logs the user into the token of the session.
func (n native) login(s p11.SessionHandle, pin []byte) error {
	rv := C.login(n.list, C.ulong_t(s), p11.CKU_USER, bytePtr(pin), C.ulong_t(len(pin)))
	runtime.KeepAlive(pin)
	return ckr(rv)
}

const (
	maxIV   = 64 // room for the IV of a module that chooses its own
	ivSize  = 12
	gcmRoom = 64 // more than a tag, for modules that append something
)

// encrypt encrypts in with the given IV and returns the IV that was used.
func (n native) encrypt(s p11.SessionHandle, key p11.ObjectHandle, iv, in, aad []byte) (used, out []byte, err error) {
	ivBuf := make([]byte, maxIV)
	ivLen := C.ulong_t(copy(ivBuf, iv))
	out = make([]byte, len(in)+gcmRoom)
	outLen := C.ulong_t(len(out))
	rv := C.gcm(n.list, 0, C.ulong_t(s), C.ulong_t(key), bytePtr(ivBuf), &ivLen,
		bytePtr(aad), C.ulong_t(len(aad)), bytePtr(in), C.ulong_t(len(in)), bytePtr(out), &outLen)
	if rv != 0 {
		return nil, nil, ckr(rv)
	}
	if ivLen != ivSize || int(outLen) != len(in)+hsm.TagSize {
		return nil, nil, fmt.Errorf("%w: AES-GCM gave an IV of %d and a ciphertext of %d bytes instead of %d and %d",
			hsm.ErrUnfit, ivLen, outLen, ivSize, len(in)+hsm.TagSize)
	}
	return ivBuf[:ivSize:ivSize], out[:outLen:outLen], nil
}

// decrypt opens in. The plaintext returned is the caller's to wipe.
func (n native) decrypt(s p11.SessionHandle, key p11.ObjectHandle, iv, in, aad []byte) ([]byte, error) {
	ivBuf := make([]byte, maxIV)
	ivLen := C.ulong_t(copy(ivBuf, iv))
	out := make([]byte, len(in)) // more than the plaintext: some modules want that
	outLen := C.ulong_t(len(out))
	rv := C.gcm(n.list, 1, C.ulong_t(s), C.ulong_t(key), bytePtr(ivBuf), &ivLen,
		bytePtr(aad), C.ulong_t(len(aad)), bytePtr(in), C.ulong_t(len(in)), bytePtr(out), &outLen)
	if rv != 0 {
		clear(out) // what a module may have released before the tag failed
		return nil, ckr(rv)
	}
	if int(outLen) != len(in)-hsm.TagSize {
		clear(out)
		return nil, fmt.Errorf("%w: AES-GCM gave a plaintext of %d bytes instead of %d",
			hsm.ErrUnfit, outLen, len(in)-hsm.TagSize)
	}
	return out[:outLen:outLen], nil
}

// blocks encrypts whole blocks, each by itself. What is returned is the caller's to wipe.
func (n native) blocks(s p11.SessionHandle, key p11.ObjectHandle, in []byte) ([]byte, error) {
	out := make([]byte, len(in))
	outLen := C.ulong_t(len(out))
	rv := C.ecb(n.list, C.ulong_t(s), C.ulong_t(key), bytePtr(in), C.ulong_t(len(in)), bytePtr(out), &outLen)
	if rv != 0 {
		return nil, ckr(rv)
	}
	if int(outLen) != len(in) {
		clear(out)
		return nil, fmt.Errorf("%w: AES-ECB gave %d bytes for %d", hsm.ErrUnfit, outLen, len(in))
	}
	return out, nil
}

func bytePtr(b []byte) *C.uchar {
	if len(b) == 0 {
		return nil
	}
	return (*C.uchar)(unsafe.Pointer(&b[0]))
}

func ckr(rv C.ulong_t) error {
	if rv == 0 {
		return nil
	}
	return p11.Error(rv)
}
