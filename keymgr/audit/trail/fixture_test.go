package trail

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/audit/seal"
)

const testStore = "000102030405060708090a0b0c0d0e0f"

// notary is a Sealer in memory, as the key manager is one.
type notary struct {
	key  seal.PublicKey
	priv ed25519.PrivateKey

	mu      sync.Mutex
	anchors map[string]seal.Anchor
	fail    func() error // nil: nothing fails
	mute    bool         // seals and anchors, but the answer is lost
}

func newNotary(t testing.TB) *notary {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &notary{key: seal.PublicKey{Name: seal.KeyName(testStore), Algorithm: seal.Ed25519, Bytes: pub}, priv: priv, anchors: map[string]seal.Anchor{}}
}

func (n *notary) AuditHead(_ context.Context, stream string) (seal.Anchor, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.anchors[stream], nil
}

func (n *notary) SealAudit(_ context.Context, c seal.Claim) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fail != nil {
		if err := n.fail(); err != nil {
			return nil, err
		}
	}
	a := n.anchors[c.Stream]
	if a.Size != c.Size || a.Root != c.Root || a.Clean != c.Clean || a.Size == 0 {
		old := a.Head
		old.Stream = c.Stream
		if err := c.Check(old); err != nil {
			return nil, err
		}
		head := seal.Head{KeyStore: testStore, Stream: c.Stream, Size: c.Size, Root: c.Root}
		note, err := head.Sign(n.key, func(m []byte) ([]byte, error) { return ed25519.Sign(n.priv, m), nil })
		if err != nil {
			return nil, err
		}
		a = seal.Anchor{Head: head, Clean: c.Clean, Archived: a.Archived, Seal: note}
		n.anchors[c.Stream] = a
	}
	if n.mute {
		return nil, errors.New("the answer is lost")
	}
	return a.Seal, nil
}

func (n *notary) trust() Trust {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := Trust{Key: n.key, Complete: true}
	for _, a := range n.anchors {
		t.Anchors = append(t.Anchors, a)
	}
	return t
}

// never is a time between seals that does not pass: tests seal when they want to.
const never = time.Hour

func options(dir string) Options {
	return Options{Dir: dir, KeyStore: testStore, Stream: KeyStream, SealEvery: never, Limit: 30 * time.Second}
}

func open(t testing.TB, o Options, s Sealer) *Log {
	t.Helper()
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if s != nil {
		if err := l.Attach(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// crash ends a log as the death of its process does: nothing more is written.
func (l *Log) crash() {
	l.mu.Lock()
	l.mu.closed = true
	l.mu.Unlock()
	close(l.ends)
	l.workers.Wait()
	<-l.written
	file := l.w.file
	if f, ok := file.(*faultFile); ok {
		file = f.segmentFile
	}
	if f, ok := file.(*osFile); ok {
		f.size = f.end // it does not get to giving space back
	}
	l.w.file.Close()
	l.lock.Close()
}

var names = []string{audit.Open, audit.Create, audit.Rename, audit.Close, "Decrypt"}

func event(i int) *audit.Event {
	e := &audit.Event{Class: audit.Access, Source: audit.Files, Name: names[i%len(names)], Decision: audit.Allow, Statement: "zone 1, statement 2 (Readers)",
		Identity: audit.Identity{Principal: fmt.Sprintf("arn:aws:iam::000000000000:unix/user%d", i%7), UID: i % 7, GID: 100, PID: i, Program: "/usr/bin/cat"},
		Object: audit.Object{Volume: "00112233445566778899aabbccddeeff", Zone: 1, Path: fmt.Sprintf("/home/u%d/project %d/file-%d.txt", i%7, i/1000, i), Inode: uint64(i),
			Key: fmt.Sprintf("arn:aws:kms:local:000000000000:key/%d", i%3)}}
	if i%10 == 9 {
		e.Class, e.Decision, e.ErrorCode = audit.Denial, audit.Deny, "AccessDeniedException"
	}
	return e
}

func record(t testing.TB, l *Log, from, to int) {
	t.Helper()
	var wg sync.WaitGroup
	slots := make(chan struct{}, 64)
	for i := from; i < to; i++ {
		wg.Add(1)
		slots <- struct{}{}
		go func() {
			defer func() { <-slots; wg.Done() }()
			if err := l.Record(context.Background(), event(i)); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
}

func verify(t testing.TB, dir string, trust Trust) []Report {
	t.Helper()
	reports, err := Verify(context.Background(), dir, trust)
	if err != nil {
		t.Fatal(err)
	}
	return reports
}

// whole fails the test unless the log is whole; it gives the one report.
func whole(t testing.TB, dir string, trust Trust) Report {
	t.Helper()
	reports := verify(t, dir, trust)
	if len(reports) != 1 {
		t.Fatalf("%d streams", len(reports))
	}
	for _, f := range reports[0].Faults {
		t.Errorf("an untouched log: %s", f)
	}
	return reports[0]
}
