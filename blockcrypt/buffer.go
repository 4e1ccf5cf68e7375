package blockcrypt

import "unsafe"

// NewBuffer returns a zeroed slice of n bytes with TagSize bytes of spare
// capacity: with it SealRun and OpenRun copy no block.
func NewBuffer(n int) []byte {
	return make([]byte, n, n+TagSize)
}

// withSpare extends b by the spare capacity that a seal would write to.
func withSpare(b []byte) []byte {
	return b[:min(cap(b), len(b)+TagSize)]
}

// overlap reports whether a and b share memory. It compares addresses only,
// as crypto/internal/alias does.
func overlap(a, b []byte) bool {
	return len(a) > 0 && len(b) > 0 &&
		uintptr(unsafe.Pointer(&a[0])) <= uintptr(unsafe.Pointer(&b[len(b)-1])) &&
		uintptr(unsafe.Pointer(&b[0])) <= uintptr(unsafe.Pointer(&a[len(a)-1]))
}

// inexactOverlap reports whether a and b share memory at different offsets.
func inexactOverlap(a, b []byte) bool {
	return len(a) > 0 && len(b) > 0 && &a[0] != &b[0] && overlap(a, b)
}
