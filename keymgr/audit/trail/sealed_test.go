package trail

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/audit/auditor"
)

// auditors makes a key and what seals to it.
func auditors(t *testing.T) (*auditor.SecretKey, *auditor.Sealer) {
	t.Helper()
	k := must(auditor.NewKey())
	return k, must(auditor.NewSealer(k.Public()))
}

// TestSealedToAuditor: no name, path, user or key of a sealed log stands in clear, compressed or not; it verifies without the auditor's key; with it, everything is found that is in a log in clear.
func TestSealedToAuditor(t *testing.T) {
	key, sealer := auditors(t)
	dir, n := filepath.Join(t.TempDir(), "audit"), newNotary(t)
	o := spooled(dir, tmpfs(t))
	o.Auditor, o.SegmentSize = sealer, 100<<10
	l := open(t, o, n)
	record(t, l, 0, 600)
	large := of(audit.KeyUse, 601)
	large.Path, large.Detail = "/large", strings.Repeat("x", audit.MaxEvent-4000)
	if err := l.Record(t.Context(), large); err != nil {
		t.Errorf("an event as large as it may be: %v", err)
	}
	if err := l.packAll(); err != nil {
		t.Fatal(err)
	}
	record(t, l, 700, 900)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	whole(t, dir, n.trust())
	for _, s := range must(listSegments(filepath.Join(dir, KeyStream))) {
		in := must(openSegment(s))
		for {
			line, err := in.next()
			if err != nil {
				break
			}
			for _, secret := range []string{"project", "unix/user", "usr/bin", "kms:local", "statement"} {
				if bytes.Contains(line, []byte(secret)) {
					t.Fatalf("%s stands in %.300s", secret, line)
				}
			}
		}
		in.close()
	}
	count := func(q Query) (n int) {
		t.Helper()
		err := Search(t.Context(), dir, q, func(f Found) error {
			if n++; f.Event.Path == "" || f.Event.Sealed != "" || !bytes.HasSuffix(f.Line, audit.AppendSequence(nil, f.Event.Sequence)) {
				t.Fatalf("%s", f.Line)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	opener := auditor.NewOpener(key)
	if got := count(Query{Opener: opener}); got != 801 {
		t.Errorf("%d events", got)
	}
	below := 0
	for i := range 900 {
		if i%7 == 3 && (i < 600 || i >= 700) {
			below++
		}
	}
	if got := count(Query{Opener: opener, Path: "/home/u3"}); got != below {
		t.Errorf("%d events below a path", got)
	}
	if got := count(Query{Opener: opener, Decision: audit.Deny, Principal: event(9).Principal}); got == 0 {
		t.Error("no denial of a user is found")
	}
	if got := count(Query{Path: "/home"}); got != 0 {
		t.Errorf("without the key %d events are found by their path", got)
	}
	other, _ := auditors(t)
	if err := Search(t.Context(), dir, Query{Opener: auditor.NewOpener(other)}, func(Found) error { return nil }); !errors.Is(err, auditor.ErrSealed) {
		t.Errorf("with another key: %v", err)
	}
	if names := must(filepath.Glob(filepath.Join(dir, KeyStream, "*.zst"))); len(names) == 0 {
		t.Error("nothing was compressed")
	}
}
