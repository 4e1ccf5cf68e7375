package export

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/audit/trail"
)

func found(t *testing.T, i int, at time.Time) trail.Found {
	t.Helper()
	e := &audit.Event{Class: audit.KeyUse, Source: audit.Keys, Name: "Decrypt", Decision: audit.Allow, ID: fmt.Sprint(i), Time: at, Detail: "a|b=c\\d\ne",
		Object: audit.Object{Key: "arn:aws:kms:local:000000000000:key/1", Path: "/a=b"}}
	line, err := e.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return trail.Found{Stream: "keyd", Line: audit.AppendSequence(line, uint64(i)), Event: e}
}

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func TestLinesAndCEF(t *testing.T) {
	var b bytes.Buffer
	f := found(t, 7, noon)
	w := NewLines(&b)
	if err := w.Write(f); err != nil || w.Close() != nil || b.String() != string(f.Line)+"\n" {
		t.Errorf("lines: %q, %v", b.String(), err)
	}
	b.Reset()
	w = NewCEF(&b, "1|0")
	if err := w.Write(f); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	got := b.String()
	for _, want := range []string{`CEF:0|kmsfs|kmsfs|1\|0|keyUse|Decrypt|2|rt=` + fmt.Sprint(noon.UnixMilli()), ` outcome=allow`, ` filePath=/a\=b`, ` msg=a|b\=c\\d\ne `} {
		if !strings.Contains(got, want) {
			t.Errorf("%q lacks %q", got, want)
		}
	}
	if strings.Count(got, "\n") != 1 {
		t.Errorf("not one line: %q", got)
	}
}

// exported makes a bucket with events in three hours of five.
func exported(t *testing.T, key *rsa.PrivateKey) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "out")
	c, err := NewCloudTrail(dir, "kmsfs-audit", key)
	if err != nil {
		t.Fatal(err)
	}
	for i, minutes := range []int{1, 2, 59, 61, 62, 250, 251} {
		if err := c.Write(found(t, i, noon.Add(time.Duration(minutes)*time.Minute))); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

type verdict struct {
	Bad           []string
	Digests, Logs int
}

func validate(t *testing.T, dir string) (v verdict) {
	t.Helper()
	out, err := exec.Command("python3", "testdata/validate.py", dir, "2026-03-04T12:00:00+00:00", "2026-03-04T18:00:00+00:00").Output()
	if err != nil {
		t.Fatalf("validate: %v %s", err, err.(*exec.ExitError).Stderr)
	}
	if err := json.Unmarshal(out, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// TestAWSValidator: AWS' own validator finds the export valid, and finds a changed log file, a changed digest and a removed one.
func TestAWSValidator(t *testing.T) {
	if err := exec.Command("python3", "-c", "import awscli.customizations.cloudtrail.validation").Run(); err != nil {
		if os.Getenv("KMSFS_REQUIRE") == "1" {
			t.Fatalf("python3 has no awscli: %v", err)
		}
		t.Skip("python3 has no awscli")
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if v := validate(t, exported(t, key)); len(v.Bad) != 0 || v.Digests != 5 || v.Logs != 3 {
		t.Fatalf("untouched: %+v", v)
	}
	for what, harm := range map[string]func(name string) error{"changed log": flip("/CloudTrail/"), "changed digest": flip("/CloudTrail-Digest/"), "removed digest": remove} {
		dir := exported(t, key)
		if err := harm(dir); err != nil {
			t.Fatal(err)
		}
		if v := validate(t, dir); len(v.Bad) == 0 {
			t.Errorf("%s: not found: %+v", what, v)
		}
	}
}

// first gives the first compressed file whose path has part in it.
func first(dir, part string) (path string, err error) {
	err = filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err == nil && path == "" && strings.Contains(p, part) && strings.HasSuffix(p, ".gz") {
			path = p
		}
		return err
	})
	return path, err
}

func flip(part string) func(string) error {
	return func(dir string) error {
		path, err := first(dir, part)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		data[len(data)/2] ^= 1
		return os.WriteFile(path, data, 0o600)
	}
}

func remove(dir string) error {
	path, err := first(dir, "/CloudTrail-Digest/")
	if err != nil {
		return err
	}
	next := strings.Replace(path, "T130000Z", "T140000Z", 1)
	return os.Remove(next)
}
