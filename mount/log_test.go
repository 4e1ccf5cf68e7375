package mount

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestLogRotates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	old := bytes.Repeat([]byte("x"), maxLog)
	writeFile(t, path, string(old), 0o600)
	f, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if st := must(os.Stat(path))(t); st.Size() != 0 || st.Mode().Perm() != 0o600 {
		t.Fatalf("the new log: %d bytes, %v", st.Size(), st.Mode())
	}
	if !bytes.Equal(must(os.ReadFile(path+".1"))(t), old) {
		t.Fatal("the old log is not there")
	}
}

// TestLogRenewed fills the log of a running daemon, whose standard error it is.
func TestLogRenewed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	t.Setenv("KMSFS_TEST_LOG", path)
	if err := spawn([]string{"spawned", "chatter"}, path, []byte("the input")); err != nil {
		t.Fatal(err)
	}
	older, newer := must(os.Stat(path+".1"))(t), must(os.Stat(path))(t)
	if older.Size() < maxLog || older.Size() > maxLog*5/4 || newer.Size() == 0 || newer.Size() > maxLog {
		t.Fatalf("%d bytes in the older log, %d in the newer", older.Size(), newer.Size())
	}
}
