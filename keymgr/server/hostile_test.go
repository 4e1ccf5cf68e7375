package server

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/client"
	"github.com/kmsfs/kmsfs/keymgr/keystore"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

func TestBadRequests(t *testing.T) {
	dir := newKeyStore(t, false)
	serve(t, RunConfig{Dir: dir})
	c := dial(t, dir, client.Options{})
	md, err := c.CreateKey(t.Context(), self, keymgr.CreateKeyInput{Alias: "alias/x"})
	if err != nil {
		t.Fatal(err)
	}
	raw := rawClient(t, dir)
	aws := wire.ServiceAWS
	for name, r := range map[string]struct {
		method, path, target, contentType, body string
		header                                  [2]string
		code                                    string
		status                                  int
	}{
		"unknown operation":    {target: aws + "DeleteEverything", code: "UnknownOperationException"},
		"unknown service":      {target: "DynamoDB.GetItem", code: "UnknownOperationException"},
		"no target":            {code: "UnknownOperationException"},
		"two targets":          {target: aws + "ListKeys", header: [2]string{"X-Amz-Target", aws + "CreateKey"}, code: "UnknownOperationException"},
		"ours under AWS' name": {target: aws + "Unlock", code: "UnknownOperationException"},
		"get":                  {method: "GET", target: aws + "ListKeys", code: "UnknownOperationException"},
		"other path":           {path: "/x", target: aws + "ListKeys", code: "UnknownOperationException"},
		"query":                {path: "/?Action=ListKeys", target: aws + "ListKeys", code: "UnknownOperationException"},
		"content type":         {contentType: "text/plain", target: aws + "ListKeys", code: "SerializationException"},
		"malformed":            {target: aws + "ListKeys", body: "{", code: "SerializationException"},
		"binary":               {target: aws + "Decrypt", body: "\x00\xff\x80", code: "SerializationException"},
		"array":                {target: aws + "Decrypt", body: "[]", code: "SerializationException"},
		"duplicate":            {target: aws + "DescribeKey", body: `{"KeyId":"alias/x","KeyId":"alias/y"}`, code: "SerializationException"},
		"duplicate context":    {target: aws + "Encrypt", body: `{"KeyId":"alias/x","Plaintext":"cA==","EncryptionContext":{"a":"1","a":"2"}}`, code: "SerializationException"},
		"wrong type":           {target: aws + "DescribeKey", body: `{"KeyId":7}`, code: "SerializationException"},
		"deep":                 {target: aws + "ListKeys", body: strings.Repeat(`{"a":`, 50000), code: "SerializationException"},
		"10 MB":                {target: aws + "Encrypt", body: strings.Repeat(" ", 10<<20), code: "SerializationException"},
		"forward unregistered": {target: aws + "Encrypt", header: [2]string{wire.HeaderForward, wire.EncodeForward(keymgr.Caller{})}, code: "AccessDeniedException"},
		"neither length":       {target: aws + "GenerateDataKey", body: `{"KeyId":"alias/x"}`, code: "ValidationException"},
		"both lengths":         {target: aws + "GenerateDataKey", body: `{"KeyId":"alias/x","KeySpec":"AES_256","NumberOfBytes":32}`, code: "ValidationException"},
		"key spec":             {target: aws + "GenerateDataKey", body: `{"KeyId":"alias/x","KeySpec":"AES_512"}`, code: "ValidationException"},
		"dry run":              {target: aws + "GenerateDataKey", body: `{"KeyId":"alias/x","KeySpec":"AES_256","DryRun":true}`, code: "DryRunOperationException"},
		"algorithm":            {target: aws + "Encrypt", body: `{"KeyId":"alias/x","Plaintext":"cA==","EncryptionAlgorithm":"RSAES_OAEP_SHA_1"}`, code: "ValidationException"},
		"RSA key":              {target: aws + "CreateKey", body: `{"KeySpec":"RSA_2048"}`, code: "UnsupportedOperationException"},
		"policy":               {target: aws + "CreateKey", body: `{"Policy":"{}"}`, code: "MalformedPolicyDocumentException"},
		"no plaintext":         {target: aws + "Encrypt", body: `{"KeyId":"alias/x"}`, code: "ValidationException"},
		"no random length":     {target: aws + "GenerateRandom", code: "ValidationException"},
		"long random":          {target: aws + "GenerateRandom", body: `{"NumberOfBytes":99999999999999999999}`, code: "SerializationException"},
		"no secret":            {target: wire.ServiceKmsfs + "Unlock", code: "ValidationException"},
		"volume id":            {target: wire.ServiceKmsfs + "RegisterVolume", body: `{"VolumeId":"x"}`, code: "ValidationException"},
		"fine":                 {target: aws + "GenerateDataKey", body: `{"KeyId":"alias/x","KeySpec":"AES_128"}`, status: 200},
		"fine, empty":          {target: aws + "ListKeys", status: 200},
		"fine, lenient type":   {contentType: "application/json", target: aws + "ListKeys", status: 200},
	} {
		if r.method == "" {
			r.method = http.MethodPost
		}
		if r.contentType == "" {
			r.contentType = wire.ContentType
		}
		req, err := http.NewRequest(r.method, "http://x"+r.path, strings.NewReader(r.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", r.contentType)
		if r.target != "" {
			req.Header.Set(wire.HeaderTarget, r.target)
		}
		if r.header[0] != "" {
			req.Header.Add(r.header[0], r.header[1])
		}
		resp, err := raw.Do(req)
		if err != nil {
			if name == "10 MB" { // the answer may be lost behind what was still being sent; TestLongBodies looks closer
				continue
			}
			t.Errorf("%s: %v", name, err)
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if r.status == 0 {
			r.status = 400
		}
		if err != nil || resp.StatusCode != r.status || r.code != "" && !strings.Contains(string(body), `"__type":"`+r.code+`"`) {
			t.Errorf("%s: %d %.200s %v, want %d %s", name, resp.StatusCode, body, err, r.status, r.code)
		}
		if resp.Header.Get("Content-Type") != wire.ContentType || len(resp.Header.Get(wire.HeaderRequestID)) != 36 || resp.Header.Get("Date") == "" {
			t.Errorf("%s: headers %v", name, resp.Header)
		}
	}
	if list, err := c.ListKeys(t.Context(), self, keymgr.Page{}); err != nil || len(list.Keys) != 1 || list.Keys[0].KeyID != md.KeyID {
		t.Errorf("something was changed: %+v %v", list, err)
	}
}

// TestLongBodies: a body that is too long is refused as soon as that is known, without reading it.
func TestLongBodies(t *testing.T) {
	dir := newKeyStore(t, false)
	serve(t, RunConfig{Dir: dir})
	head := "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: " + wire.ContentType + "\r\nX-Amz-Target: TrentService.Encrypt\r\n"
	for name, send := range map[string]string{
		"announced": head + "Content-Length: 10485760\r\n\r\n",
		"chunked":   head + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat(fmt.Sprintf("%x\r\n%s\r\n", 64<<10, strings.Repeat(" ", 64<<10)), 5),
		"absurd":    head + "Content-Length: 999999999999999\r\n\r\n",
	} {
		c := rawConn(t, dir)
		if _, err := io.WriteString(c, send); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != 400 || !bytes.Contains(body, []byte("SerializationException")) || !bytes.Contains(body, []byte("longer than")) {
			t.Errorf("%s: %d %s", name, resp.StatusCode, body)
		}
	}
	c := rawConn(t, dir)
	if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 1<<20)); err == nil { // the server may hang up while we send
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil && resp.StatusCode < 400 {
			t.Errorf("long header: %d", resp.StatusCode)
		}
	}
	dial(t, dir, client.Options{})
}

// TestRegistration: a connection is registered once; a second volume on it is refused, the first one stays.
func TestRegistration(t *testing.T) {
	dir := newKeyStore(t, false)
	serve(t, RunConfig{Dir: dir})
	c := rawConn(t, dir)
	in := bufio.NewReader(c)
	ask := func(operation, body string) (int, string) {
		t.Helper()
		if _, err := fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nX-Amz-Target: KmsfsService.%s\r\nContent-Length: %d\r\n\r\n%s",
			wire.ContentType, operation, len(body), body); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(answer)
	}
	one, two := strings.Repeat("1", 32), strings.Repeat("2", 32)
	volume, err := blockcrypt.ParseVolumeID(one)
	if err != nil {
		t.Fatal(err)
	}
	enrol(t, dir, volume)
	var registered wire.RegisterVolumeResponse
	proof := func() string { // of what the connection was asked
		return base64.StdEncoding.EncodeToString(keymgr.FrontEndProof(&frontKey, volume, registered.Challenge))
	}
	for i, step := range []struct {
		operation, volume string
		proof             func() string
		status            int
	}{
		{"AdvanceAnchor", one, nil, 400}, {"RegisterVolume", one, nil, 200}, {"RegisterVolume", one, nil, 200}, {"RegisterVolume", two, nil, 400},
		{"AdvanceAnchor", one, nil, 400}, // it has proved nothing
		{"RegisterVolume", one, proof, 200}, {"AdvanceAnchor", one, nil, 200}, {"AdvanceAnchor", two, nil, 400},
	} {
		body := fmt.Sprintf(`{"VolumeId":%q,"Anchor":{"Generation":1,"Sequence":1,"Head":%q}}`, step.volume, one)
		if step.proof != nil {
			body = fmt.Sprintf(`{"VolumeId":%q,"Proof":%q}`, step.volume, step.proof())
		}
		status, answer := ask(step.operation, body)
		if status != step.status || status == 400 && !strings.Contains(answer, "AccessDeniedException") {
			t.Errorf("step %d, %s %s: %d %s", i, step.operation, step.volume, status, answer)
		}
		if step.operation == "RegisterVolume" && status == 200 {
			if err := wire.Decode([]byte(answer), &registered); err != nil || len(registered.Challenge) != keymgr.ChallengeSize {
				t.Fatalf("answer %s: %v", answer, err)
			}
		}
	}
	if _, answer := ask("Status", "{}"); !strings.Contains(answer, `"FrontEndVolumes":["`+one+`"]`) {
		t.Errorf("status %s", answer)
	}
}

// TestSlowClients: clients that send nothing, half a header, half a body, or do not read, fill all connections for a bounded time only.
func TestSlowClients(t *testing.T) {
	dir := newKeyStore(t, false)
	short := defaultBounds
	short.conns, short.header, short.read, short.write, short.idle = 8, time.Second, 1500*time.Millisecond, 2*time.Second, 2*time.Second
	serve(t, RunConfig{Dir: dir, Options: options, bounds: &short})
	var slow []net.Conn
	for i := range 16 {
		c := rawConn(t, dir)
		slow = append(slow, c)
		text := []string{"", "POST / HTTP/1.1\r\nHost:", "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: " + wire.ContentType + "\r\nX-Amz-Target: TrentService.Encrypt\r\nContent-Length: 100\r\n\r\n{",
			"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: KmsfsService.Status\r\nContent-Length: 0\r\n\r\n"}[i%4]
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
	}
	c := client.New(keystore.SocketPath(dir), client.Options{Timeout: 30 * time.Second})
	t.Cleanup(func() { _ = c.Close() })
	if _, err := c.Status(t.Context()); err != nil {
		t.Errorf("behind slow clients: %v", err)
	}
	for i, c := range slow { // each of them is hung up on
		answer, err := io.ReadAll(c)
		if err != nil && os.IsTimeout(err) {
			t.Errorf("slow client %d is still there", i)
		}
		if i%4 == 2 && len(answer) > 0 && !bytes.Contains(answer, []byte("DependencyTimeoutException")) { // none where all connections were taken
			t.Errorf("half a body is answered %q", answer)
		}
	}
}

func FuzzRequest(f *testing.F) {
	dir := f.TempDir() // a locked server without a key store: the parsers and the dispatcher are what is tried
	s := newServer(RunConfig{Dir: dir, Options: keystore.Options{Log: discard()}}, keystore.Config{})
	f.Add("TrentService.Decrypt", `{"CiphertextBlob":"AQI="}`, "")
	f.Add("KmsfsService.RegisterVolume", `{"VolumeId":"01000000000000000000000000000000"}`, wire.EncodeForward(keymgr.Caller{UID: 1}))
	f.Fuzz(func(t *testing.T, target, body, forward string) {
		if target == wire.ServiceKmsfs+"Unlock" || target == wire.ServiceKmsfs+"Status" {
			return // need more than a dispatcher
		}
		r, err := http.NewRequest(http.MethodPost, "http://x/", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(wire.HeaderTarget, target)
		r.Header.Set("Content-Type", wire.ContentType)
		if forward != "" {
			r.Header.Set(wire.HeaderForward, forward)
		}
		sess := &session{peer: peer{uid: os.Geteuid()}}
		w := newRecorder()
		s.ServeHTTP(w, r.WithContext(withSession(r.Context(), sess)))
		if w.status != 200 && (w.status < 400 || !bytes.Contains(w.body, []byte(`"__type":"`))) {
			t.Errorf("%d %s", w.status, w.body)
		}
		if w.status >= 500 {
			t.Errorf("%s %s: %d %s", target, body, w.status, w.body)
		}
	})
}
