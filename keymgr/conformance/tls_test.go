package conformance

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/server"
)

// authority signs certificates for 127.0.0.1.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // PEM, as AWS_CA_BUNDLE takes it
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, file: filepath.Join(t.TempDir(), "ca.pem")}
	a.key = newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kmsfs test"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// issue writes a certificate with this serial number, and its key.
func (a *authority) issue(files server.TLSFiles, serial int64) {
	a.t.Helper()
	key := newKey(a.t)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	writePEM(a.t, files.Key, "PRIVATE KEY", private)
	writePEM(a.t, files.Certificate, "CERTIFICATE", der)
	stamp := time.Unix(serial, 0) // no two certificates look the same
	if err := errors.Join(os.Chtimes(files.Key, stamp, stamp), os.Chtimes(files.Certificate, stamp, stamp)); err != nil {
		a.t.Fatal(err)
	}
}

// trusting is an HTTP client that trusts the authority; each request has a connection of its own.
func (a *authority) trusting() *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}}, Timeout: patience}
}

// TestTLS: the daemon answers over TLS on every address, and over nothing else there; policies can ask for TLS; a certificate is renewed without a restart.
func TestTLS(t *testing.T) {
	a := newAuthority(t)
	dir := t.TempDir()
	files := server.TLSFiles{Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	a.issue(files, 1)
	r := embedded(t, func(c *server.RunConfig) { c.Listen, c.TLS = "0.0.0.0:0", files })
	_, port, err := net.SplitHostPort(r.address)
	if err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort("127.0.0.1", port)
	if out, err := runAWS(append(r.env, "AWS_CA_BUNDLE="+a.file), "list-keys", "--endpoint-url", "https://"+address); err != nil || !strings.Contains(out, `"Keys": []`) {
		t.Errorf("aws over TLS: %v: %s", err, out)
	}
	once := append(r.env, "AWS_MAX_ATTEMPTS=1")
	if out, err := runAWS(once, "list-keys", "--endpoint-url", "https://"+address); err == nil || !strings.Contains(out, "SSL validation failed") {
		t.Errorf("aws does not know the authority: %v: %s", err, out)
	}
	if out, err := runAWS(once, "list-keys", "--endpoint-url", "http://"+address); err == nil {
		t.Errorf("aws without TLS: %s", out)
	}
	client := a.trusting()
	for serial := int64(1); serial <= 3; serial++ {
		a.issue(files, serial)
		resp, err := client.Post("https://"+address, "application/x-amz-json-1.1", nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if got := resp.TLS.PeerCertificates[0].SerialNumber.Int64(); got != serial || resp.TLS.Version < tls.VersionTLS12 {
			t.Errorf("certificate %d, TLS %x, want certificate %d", got, resp.TLS.Version, serial)
		}
	}
	if err := os.WriteFile(files.Certificate, []byte("half a certif"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Post("https://"+address, "application/x-amz-json-1.1", nil); err != nil {
		t.Errorf("a certificate that cannot be read ends the one before: %v", err)
	}
	r.secureTransport(a, address)
}

// secureTransport denies everything to who does not use TLS, on a key that is then used both ways.
func (r *rig) secureTransport(a *authority, address string) {
	r.t.Helper()
	admin, err := r.CreateIdentity(r.t.Context(), self, "second", true)
	if err != nil {
		r.t.Fatal(err)
	}
	md, err := r.CreateKey(r.t.Context(), self, keymgr.CreateKeyInput{Policy: `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Principal":{"AWS":"` + root + `"},"Action":"kms:*","Resource":"*"},
		{"Effect":"Deny","Principal":"*","Action":"kms:Encrypt","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}]}`})
	if err != nil {
		r.t.Fatal(err)
	}
	c := newSDK("https://"+address, admin)
	if _, err := c.Encrypt(r.t.Context(), &kms.EncryptInput{KeyId: aws.String(md.KeyID), Plaintext: []byte("p")},
		func(o *kms.Options) { o.HTTPClient = a.trusting() }); err != nil {
		r.t.Errorf("over TLS: %v", err)
	}
	if _, err := r.Encrypt(r.t.Context(), self, keymgr.EncryptInput{KeyID: md.KeyID, Plaintext: []byte("p")}); !errors.Is(err, keymgr.ErrAccessDenied) {
		r.t.Errorf("over the socket: %v", err)
	}
	r.tlsDetails(md.KeyID, address)
}

// tlsDetails fails the test unless the record of the one call over TLS says how it was protected, and that of the call over the socket does not.
func (r *rig) tlsDetails(key, address string) {
	r.t.Helper()
	want := []bool{true, false}
	for line := range strings.Lines(string(r.log())) {
		if !strings.Contains(line, `"eventName":"Encrypt"`) || !strings.Contains(line, key) || len(want) == 0 {
			continue
		}
		e, err := audit.Parse([]byte(line))
		if err != nil {
			r.t.Fatal(err)
		}
		if (e.TLS != nil) != want[0] || want[0] && (e.TLS.Version != "TLSv1.3" || !strings.HasPrefix(e.TLS.Suite, "TLS_") || e.TLS.Host != address) {
			r.t.Errorf("over TLS: %t, recorded %+v", want[0], e.TLS)
		}
		want = want[1:]
	}
	if len(want) > 0 {
		r.t.Errorf("%d records of Encrypt are missing", len(want))
	}
}

// runAWS runs the command line itself.
func runAWS(env []string, args ...string) (string, error) {
	cmd := exec.Command(awsCommand, append([]string{"kms"}, args...)...)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	return string(out), err
}
