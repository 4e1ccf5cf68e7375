package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
)

// ErrCertificate: the certificate or its key cannot be used.
var ErrCertificate = errors.New("TLS certificate cannot be used")

// TLSFiles are a certificate chain and its key, PEM. The zero value: no TLS.
type TLSFiles struct{ Certificate, Key string }

// certificate is what the files hold; a pair that was replaced counts for connections made from then on, so that certificates can be renewed without a restart.
type certificate struct {
	files TLSFiles
	log   *slog.Logger

	mu struct {
		sync.Mutex
		stamp  [2]fileStamp // of what was read last, whether it could be used or not
		loaded *tls.Certificate
	}
}

// fileStamp tells one content of a file from the next, as far as times and sizes do.
type fileStamp struct {
	modified time.Time
	size     int64
}

// loadCertificate reads the files. ErrCertificate.
func loadCertificate(files TLSFiles, log *slog.Logger) (*certificate, error) {
	c := &certificate{files: files, log: log}
	if err := c.refresh(); err != nil {
		return nil, err
	}
	return c, nil
}

// refresh reads the files again if they have changed. The certificate that is loaded stays where it fails.
func (c *certificate) refresh() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var stamp [2]fileStamp
	for i, path := range []string{c.files.Certificate, c.files.Key} {
		st, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCertificate, err)
		}
		if i == 1 && st.Mode().Perm()&0o077 != 0 {
			return fmt.Errorf("%w: others than its owner may read or write %s: chmod 600 it", ErrCertificate, path)
		}
		stamp[i] = fileStamp{st.ModTime(), st.Size()}
	}
	if stamp == c.mu.stamp {
		return nil
	}
	c.mu.stamp = stamp
	pair, err := tls.LoadX509KeyPair(c.files.Certificate, c.files.Key)
	if err != nil {
		return fmt.Errorf("%w: %s, %s: %w", ErrCertificate, c.files.Certificate, c.files.Key, err)
	}
	c.mu.loaded = &pair
	return nil
}

// current returns the certificate for a new connection.
func (c *certificate) current(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if err := c.refresh(); err != nil {
		c.log.Warn("the TLS certificate was not read again", "error", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.loaded, nil
}

// over puts TLS over a listener.
func (c *certificate) over(l net.Listener) net.Listener {
	return tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: c.current})
}
