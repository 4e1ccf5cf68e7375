//go:build !cgo

// Command kmsfs-hsm-worker, built without cgo, says that it cannot load modules.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "kmsfs-hsm-worker: built without cgo, so it cannot load PKCS#11 modules: "+
		"install a C compiler (apt-get install gcc libc6-dev) and run `make build`")
	os.Exit(1)
}
