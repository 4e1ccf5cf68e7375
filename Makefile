# kmsfs: build, try, test. `make` alone prints this list:
#   build      bin/kmsfs (static) and, where there is a C compiler, bin/kmsfs-hsm-worker
#   run        make and mount the demonstration volume under demo/
#   stop       unmount it and stop its key daemon
#   test       install what the tests need, then run every test
#   test-long  the same with the long forms (hours, not minutes)
#   race       the short tests under the race detector
#   fuzz       every fuzz target for FUZZTIME (10s)
#   lint       gofmt and go vet
#   bench      side-by-side measurements, printed as a table; BENCH="-scale 1 -json FILE" and the like
#   clean      remove bin/ and out/; demo/ stays, because it holds data

export PATH := $(PATH):/usr/local/go/bin
GO       ?= go
FUZZTIME ?= 10s
# A checkout owned by somebody else, or one without git, still builds: the version is then "unknown".
VERSION  := $(shell git -c safe.directory='*' describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  := -s -w -X main.version=$(VERSION)
BUILD    := $(GO) build -buildvcs=false -trimpath

.PHONY: help build run stop test test-long race fuzz lint bench clean

help:
	@sed -n '2,12s/^# \{0,2\}//p' Makefile

build:
	CGO_ENABLED=0 $(BUILD) -ldflags '$(LDFLAGS)' -o bin/kmsfs ./cmd/kmsfs
	@if command -v $${CC:-cc} >/dev/null 2>&1 || command -v gcc >/dev/null 2>&1; then \
	  echo "CGO_ENABLED=1 $(BUILD) -o bin/kmsfs-hsm-worker ./cmd/kmsfs-hsm-worker"; \
	  CGO_ENABLED=1 $(BUILD) -ldflags '$(LDFLAGS)' -o bin/kmsfs-hsm-worker ./cmd/kmsfs-hsm-worker; \
	else \
	  echo "no C compiler: bin/kmsfs-hsm-worker is not built (needed for PKCS#11 tokens only; apt-get install gcc libc6-dev)"; \
	fi

run: build
	@scripts/demo.sh start

stop:
	@scripts/demo.sh stop

test:
	@scripts/test.sh

test-long:
	@KMSFS_LONG=1 scripts/test.sh

race:
	@KMSFS_RACE=1 scripts/test.sh

fuzz:
	@FUZZTIME=$(FUZZTIME) scripts/fuzz.sh

lint:
	@out=$$(gofmt -l $$(git -c safe.directory='*' ls-files '*.go')); if [ -n "$$out" ]; then echo "not gofmt'ed:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...

bench: build
	$(GO) run ./bench $(BENCH)
	CGO_ENABLED=1 KMSFS_BENCH=1 $(GO) test ./bench/kms -run KeyManager -count=1 -v
	KMSFS_BENCH=1 $(GO) test ./bench/audit -run Cost -count=1 -v

clean:
	rm -rf bin out
