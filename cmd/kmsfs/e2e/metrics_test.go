package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// scrape gets the figures of a daemon, by name with labels.
func scrape(t testing.TB, address string) (figures map[string]float64, text string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if path, ok := strings.CutPrefix(address, "unix:"); ok {
			network, addr = "unix", path
		}
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}}}
	host := address
	if strings.HasPrefix(address, "unix:") {
		host = "daemon"
	}
	resp, err := client.Get("http://" + host + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v\n%s", resp.Status, err, raw)
	}
	figures = map[string]float64{}
	lines := bufio.NewScanner(strings.NewReader(string(raw)))
	for lines.Scan() {
		if line := lines.Text(); line != "" && line[0] != '#' {
			i := strings.LastIndexByte(line, ' ')
			v, err := strconv.ParseFloat(line[i+1:], 64)
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			figures[line[:i]] = v
		}
	}
	return figures, string(raw)
}

// freePort returns an address that nobody listens on.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestMetrics scrapes both daemons of a real mount: what is done is counted, nothing says what files or keys are called, and without --metrics there is nothing.
func TestMetrics(t *testing.T) {
	r := newRig(t)
	r.Init()
	keyd := freePort(t)
	r.Must("keystore", "lock")
	r.Must(append([]string{"keyd", "--metrics", keyd}, r.Secret...)...)
	socket := filepath.Join(r.Dir, "figures")
	files := "unix:" + socket
	r.Mount("--metrics", files)
	if st, err := os.Stat(socket); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", st, err)
	}
	before, _ := scrape(t, files)
	const name = "a-telling-name"
	for i := range 20 {
		write(t, fmt.Sprintf("%s/%s%d", r.Mnt, name, i), make([]byte, 50_000))
	}
	if err := os.Mkdir(r.Mnt+"/full", 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, r.Mnt+"/full/f", nil)
	if err := unix.Rmdir(r.Mnt + "/full"); err != unix.ENOTEMPTY {
		t.Fatal(err)
	}
	f, err := os.OpenFile(r.Mnt+"/"+name+"0", os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	j := r.reencrypt("--rate", "20K", r.Mnt)
	after, text := scrape(t, files)
	for _, c := range []struct {
		figure string
		least  float64
	}{
		{`kmsfs_request_seconds_count{op="create"}`, 20},
		{`kmsfs_request_seconds_bucket{op="create",le="+Inf"}`, 20},
		{`kmsfs_request_seconds_count{op="lookup"}`, 1},
		{`kmsfs_request_seconds_count{op="fsync"}`, 1},
		{`kmsfs_request_errors_total{errno="ENOTEMPTY",op="rmdir"}`, 1},
		{`kmsfs_written_bytes_total`, 20 * 50_000},
		{`kmsfs_updates_total`, 20},
		{`kmsfs_journal_records_total`, 20},
		{`kmsfs_journal_syncs_total`, 1},
		{`kmsfs_cache_hits_total{cache="rows"}`, 1},
		{`kmsfs_decisions_total{decision="allow",event="Create"}`, 20},
		{`kmsfs_decisions_total{decision="allow",event="SubmitJob"}`, 1},
		{`kmsfs_audit_record_seconds_count{class="access"}`, 20},
		{`kmsfs_audit_records_total`, 20},
		{`kmsfs_key_call_seconds_count{op="Decrypt"}`, 0},
		{`kmsfs_job_files_in_all{job="1",kind="reencrypt"}`, 0},
	} {
		got, there := after[c.figure]
		if !there && c.least == 0 && strings.Contains(c.figure, "Decrypt") {
			got, there = before[c.figure], true
		}
		if !there || got-before[c.figure] < c.least {
			t.Errorf("%s: %v, was %v, want %v more", c.figure, got, before[c.figure], c.least)
		}
	}
	if after[`kmsfs_volume_failed`] != 0 || after[`kmsfs_audit_failed`] != 0 || after[`kmsfs_jobs{state="done"}`] != 0 {
		t.Errorf("failed: %v", after)
	}
	r.Must("jobs", "cancel", r.Mnt, fmt.Sprint(j.ID))
	if now, _ := scrape(t, files); now[`kmsfs_jobs{state="cancelled"}`] != 1 {
		t.Error("the cancelled job is not counted")
	}
	figures, keydText := scrape(t, keyd)
	if figures[`kmsfs_keyd_answers`] != 1 || figures[`kmsfs_keyd_locked`] != 0 || figures[`kmsfs_keyd_token_answers`] != 1 || figures[`kmsfs_keyd_volumes`] != 1 ||
		figures[`kmsfs_keyd_operation_seconds_count{op="Decrypt"}`] < 1 {
		t.Errorf("of keyd:\n%s", keydText)
	}
	ids := regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-|arn:|alias/`)
	for _, text := range []string{text, keydText} {
		if strings.Contains(text, name) || strings.Contains(text, r.Dir) || strings.Contains(text, "vault") || ids.MatchString(text) {
			t.Errorf("a name, a path or an id among the figures:\n%s", text)
		}
	}
	r.Umount()
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket is still there")
	}
	r.Refused(exitUsage, []string{"loopback"}, r.MountArgs("--metrics", "0.0.0.0:9464")...)
	r.Refused(exitUsage, []string{"loopback"}, r.MountArgs("--metrics", "localhost")...)
	r.Mount()
	if _, err := os.Stat(socket); err == nil {
		t.Error("there is a socket without --metrics")
	}
}
