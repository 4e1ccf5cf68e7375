// A PKCS#11 module that passes everything on to a real one and misbehaves on
// demand. The environment names the real module (KMSFS_FAULTY_MODULE), a file with
// the present fault (KMSFS_FAULTY_FAULT: "function behaviour") and a file in which
// it notes the calls that matter (KMSFS_FAULTY_LOG). Only tests build it.
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long ulong_t;
typedef struct { unsigned char major, minor; void *fn[68]; } list_t;
typedef struct { ulong_t type; void *value; ulong_t len; } attribute_t;
typedef struct { ulong_t mechanism; void *parameter; ulong_t len; } mechanism_t;
typedef struct { unsigned char *iv; ulong_t iv_len, iv_bits; unsigned char *aad; ulong_t aad_len, tag_bits; } gcm_t;
typedef ulong_t (*any_t)(ulong_t, ...);

enum { INITIALIZE = 0, LOGIN = 18, FIND_INIT = 26, ENCRYPT_INIT = 29, DECRYPT_INIT = 33, DECRYPT = 34, GENERATE = 58 };

static list_t *real, ours;

// fault does what the fault file says about a function: hang and crash (once)
// happen here, a return value in hexadecimal is returned, and -1 stands for none. With
// behaviour not NULL it only compares.
static long fault(const char *function, const char *behaviour) {
	char want[32], how[32];
	FILE *f = fopen(getenv("KMSFS_FAULTY_FAULT"), "r");
	if (f == NULL) return -1;
	int n = fscanf(f, "%31s %31s", want, how);
	fclose(f);
	if (n != 2 || strcmp(want, function) != 0) return -1;
	if (behaviour != NULL) return strcmp(how, behaviour) == 0;
	if (strcmp(how, "crash") == 0) {
		unlink(getenv("KMSFS_FAULTY_FAULT"));
		volatile int *p = NULL;
		*p = 1;
	}
	if (strcmp(how, "hang") == 0) {
		while (access(getenv("KMSFS_FAULTY_FAULT"), F_OK) == 0) usleep(1000);
		return -1;
	}
	char *end;
	long rv = strtol(how, &end, 16);
	return *end == 0 ? rv : -1;
}

static void note(const char *what) {
	int fd = open(getenv("KMSFS_FAULTY_LOG"), O_WRONLY | O_APPEND | O_CREAT, 0600);
	if (fd < 0 || write(fd, what, strlen(what)) < 0) abort();
	close(fd);
}

static ulong_t initialize(void *args) {
	note("initialize\n");
	return ((ulong_t (*)(void *))real->fn[INITIALIZE])(args);
}

static ulong_t login(ulong_t session, ulong_t user, unsigned char *pin, ulong_t len) {
	note("login\n");
	long rv = fault("login", NULL);
	return rv >= 0 ? (ulong_t)rv : ((any_t)real->fn[LOGIN])(session, user, pin, len);
}

static ulong_t find_init(ulong_t session, attribute_t *t, ulong_t n) {
	long rv = fault("find", NULL);
	return rv >= 0 ? (ulong_t)rv : ((any_t)real->fn[FIND_INIT])(session, t, n);
}

// init drops the AAD when the fault is "aad ignored".
static ulong_t init(int which, ulong_t session, mechanism_t *m, ulong_t key) {
	gcm_t p = *(gcm_t *)m->parameter;
	mechanism_t copy = *m;
	if (m->mechanism == 0x1087 && fault("aad", "ignored") == 1) {
		p.aad = NULL;
		p.aad_len = 0;
		copy.parameter = &p;
	}
	return ((any_t)real->fn[which])(session, &copy, key);
}

static ulong_t encrypt_init(ulong_t session, mechanism_t *m, ulong_t key) { return init(ENCRYPT_INIT, session, m, key); }
static ulong_t decrypt_init(ulong_t session, mechanism_t *m, ulong_t key) { return init(DECRYPT_INIT, session, m, key); }

static ulong_t decrypt(ulong_t session, unsigned char *in, ulong_t in_len, unsigned char *out, ulong_t *out_len) {
	note("decrypt\n");
	ulong_t got = ((any_t)real->fn[DECRYPT])(session, in, in_len, out, out_len); // ends the operation in any case
	long rv = fault("decrypt", NULL);
	return rv >= 0 ? (ulong_t)rv : got;
}

// generate makes readable keys when the fault is "generate readable".
static ulong_t generate(ulong_t session, mechanism_t *m, attribute_t *t, ulong_t n, ulong_t *key) {
	note("generate\n");
	int weak = fault("generate", "readable") == 1;
	for (ulong_t i = 0; weak && i < n; i++) {
		if (t[i].type == 0x103) *(unsigned char *)t[i].value = 0; // CKA_SENSITIVE
		if (t[i].type == 0x162) *(unsigned char *)t[i].value = 1; // CKA_EXTRACTABLE
	}
	long rv = fault("generate", NULL);
	return rv >= 0 ? (ulong_t)rv : ((any_t)real->fn[GENERATE])(session, m, t, n, key);
}

ulong_t C_GetFunctionList(list_t **list) {
	if (real == NULL) {
		void *lib = dlopen(getenv("KMSFS_FAULTY_MODULE"), RTLD_NOW | RTLD_LOCAL);
		if (lib == NULL) return 5;
		ulong_t (*get)(list_t **) = (ulong_t (*)(list_t **))dlsym(lib, "C_GetFunctionList");
		if (get == NULL || get(&real) != 0) return 5;
		ours = *real;
		ours.fn[INITIALIZE] = (void *)initialize;
		ours.fn[LOGIN] = (void *)login;
		ours.fn[FIND_INIT] = (void *)find_init;
		ours.fn[ENCRYPT_INIT] = (void *)encrypt_init;
		ours.fn[DECRYPT_INIT] = (void *)decrypt_init;
		ours.fn[DECRYPT] = (void *)decrypt;
		ours.fn[GENERATE] = (void *)generate;
	}
	*list = &ours;
	return 0;
}
