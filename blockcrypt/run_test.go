package blockcrypt

import (
	"bytes"
	"sync"
	"testing"
)

// TestRuns: no nonce comes twice, a first half is used for no more messages than it may, and what several goroutines sealed opens, with this Sealer and with a new one that has
// seen none of it.
func TestRuns(t *testing.T) {
	const goroutines, each = 4, runMessages/2 + 100
	s, other := testSealer(t, 1), testSealer(t, 1)
	sealed := make([][][]byte, goroutines)
	var done sync.WaitGroup
	for g := range goroutines {
		done.Go(func() {
			for range each {
				b, err := s.Seal(nil, []byte{byte(g)}, nil)
				if err != nil {
					t.Error(err)
					return
				}
				sealed[g] = append(sealed[g], b)
			}
		})
	}
	done.Wait()
	nonces, halves := map[[SealNonceSize]byte]bool{}, map[[halfNonce]byte]int{}
	for g := range sealed {
		for i, b := range sealed[g] {
			nonces[[SealNonceSize]byte(b)] = true
			halves[[halfNonce]byte(b)]++
			if i%97 != 0 {
				continue
			}
			for _, by := range []*Sealer{s, other} {
				if got, err := by.Open(nil, b, nil); err != nil || !bytes.Equal(got, []byte{byte(g)}) {
					t.Fatalf("opened %x, %v", got, err)
				}
			}
		}
	}
	if len(nonces) != goroutines*each {
		t.Errorf("%d nonces for %d messages", len(nonces), goroutines*each)
	}
	if len(halves) < 3 || len(halves) > 3+2*goroutines {
		t.Errorf("%d first halves", len(halves))
	}
	for half, n := range halves {
		if n > runMessages {
			t.Errorf("first half %x has %d messages", half, n)
		}
	}
}

// TestOpenRemembersNothingWrong: runs whose first halves fall into one slot take turns, and a message with another's first half does not open.
func TestOpenRemembersNothingWrong(t *testing.T) {
	s := testSealer(t, 1)
	var sealed [][]byte
	for i := range 3 {
		nonce := [SealNonceSize]byte{openedRuns, byte(i)}
		sealed = append(sealed, sealWith(t, s, nonce, []byte{byte(i)}, []byte("aad")))
	}
	for range 3 {
		for i, b := range sealed {
			if got, err := s.Open(nil, b, []byte("aad")); err != nil || got[0] != byte(i) {
				t.Fatalf("message %d: %x, %v", i, got, err)
			}
			wrong := bytes.Clone(b)
			copy(wrong, sealed[(i+1)%3][:halfNonce])
			if _, err := s.Open(nil, wrong, []byte("aad")); err == nil {
				t.Fatal("a message opens with another's first half")
			}
		}
	}
}
