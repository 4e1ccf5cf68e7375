package fs

import (
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// TestNotMeasured: without a meter requests go to the filesystem itself.
func TestNotMeasured(t *testing.T) {
	f := &FS{}
	if metered(f, nil) != any(f) {
		t.Error("something is in between")
	}
}

// counting is a Meter that counts requests.
type counting struct{ requests int }

func (c *counting) Request(string, time.Duration, string) { c.requests++ }
func (c *counting) Read(int)                              {}
func (c *counting) Written(int)                           {}

// TestWriteCountsOnce: go-fuse tries Writev first; where that is not there, only the Write that follows is a request.
func TestWriteCountsOnce(t *testing.T) {
	m := &counting{}
	f := &measured{RawFileSystem: fuse.NewDefaultRawFileSystem(), m: m}
	f.Writev(nil, &fuse.WriteIn{}, [][]byte{{1}})
	f.Write(nil, &fuse.WriteIn{}, []byte{1})
	if m.requests != 1 {
		t.Errorf("%d requests", m.requests)
	}
}
