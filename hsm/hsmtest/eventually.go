package hsmtest

import (
	"testing"
	"time"
)

// patience is how long something that comes by itself is waited for, on a machine that does much else.
const patience = 60 * time.Second

// Eventually repeats fn until it gives nil: for what happens after a pause that the package under test chooses.
func Eventually(t testing.TB, fn func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		err := fn()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}
