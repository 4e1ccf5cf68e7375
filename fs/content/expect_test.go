package content

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"
)

// TestExpectedSync: once a small new file was synced, what is written to the next one in its directory is in the journal, has no object, and survives a power cut after its
// sync. A large file has one.
func TestExpectedSync(t *testing.T) {
	r := newRig(t, rigOptions{disk: true, cutting: true})
	hasObject := func(f *File) bool {
		_, err := r.eng.objects.Get(r.eng.object(f.Ino(), f.st.serial))
		return err == nil
	}
	write := func(n int, seed uint64) *File {
		f := r.file()
		mustWrite(t, f, pattern(n, seed), 0)
		return f
	}
	first := write(20000, 1)
	if !hasObject(first) {
		t.Fatal("a file of which no sync was expected has no object")
	}
	must(t, first.Sync(ctx))
	second, large := write(20000, 2), write(smallWrite+1, 3)
	if hasObject(second) {
		t.Error("a file of which a sync was expected has an object before a checkpoint")
	}
	if !hasObject(large) {
		t.Error("a large file has no object")
	}
	must(t, second.Sync(ctx))
	ino := second.Ino()
	for _, f := range []*File{first, second, large} {
		must(t, f.Close())
	}
	r.cutPower(rand.New(rand.NewPCG(1, 2)))
	f := r.openFile(ino)
	defer f.Close()
	if got, want := mustRead(t, f, 0, 30000), pattern(20000, 2); !bytes.Equal(got, want) {
		t.Errorf("after a power cut: content differs at %d", diff(got, want))
	}
	r.check(ino)
}

// TestSyncersForget: what was learnt of a directory holds for a while.
func TestSyncersForget(t *testing.T) {
	s, now := newSyncers(), time.Now()
	s.synced(7, now)
	if !s.expects(7, now.Add(expectFor-1)) || s.expects(7, now.Add(expectFor)) || s.expects(8, now) {
		t.Error("a sync is expected of the wrong files")
	}
}
