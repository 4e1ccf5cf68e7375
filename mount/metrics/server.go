package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sys/unix"
)

// ErrAddress: an address that is neither unix:PATH nor a loopback address with a port.
var ErrAddress = errors.New("metrics are served on unix:PATH (absolute) or on a loopback address like 127.0.0.1:9464")

// Bounds of who scrapes.
const (
	scrapeTimeout = 10 * time.Second
	scrapers      = 4
)

// Registry is all figures of one daemon.
type Registry struct{ reg *prometheus.Registry }

// NewRegistry returns one with what the Go runtime and the kernel know of the process, and which program it is.
func NewRegistry(version string) *Registry {
	r := &Registry{prometheus.NewRegistry()}
	r.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kmsfs_build_info", Help: "1, with the program's version."}, []string{"version"})
	info.WithLabelValues(version).Set(1)
	r.reg.MustRegister(info)
	return r
}

// Server serves figures. Close it.
type Server struct {
	listener net.Listener
	http     *http.Server
}

// CheckAddress says whether metrics could be served at an address. ErrAddress.
func CheckAddress(address string) error {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		if !strings.HasPrefix(path, "/") {
			return fmt.Errorf("%w, not on %q", ErrAddress, address)
		}
		return nil
	}
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || port == "" || ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("%w, not on %q", ErrAddress, address)
	}
	return nil
}

// Serve begins to serve at an address, to anybody who reaches it: a socket has mode 0600, a port of the loopback interface is every local user's. A socket that a dead daemon
// left is replaced.
func Serve(address string, r *Registry, log *slog.Logger) (*Server, error) {
	if err := CheckAddress(address); err != nil {
		return nil, err
	}
	l, err := listen(address)
	if err != nil {
		return nil, fmt.Errorf("serve metrics on %s: %w", address, err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(r.reg, promhttp.HandlerOpts{MaxRequestsInFlight: scrapers, Timeout: scrapeTimeout, ErrorLog: errorLog{log}}))
	s := &Server{listener: l, http: &http.Server{
		Handler: mux, ReadHeaderTimeout: scrapeTimeout, ReadTimeout: scrapeTimeout, WriteTimeout: 2 * scrapeTimeout, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}}
	go func() { _ = s.http.Serve(l) }()
	return s, nil
}

func listen(address string) (net.Listener, error) {
	path, ok := strings.CutPrefix(address, "unix:")
	if !ok {
		return net.Listen("tcp", address)
	}
	if err := removeDead(path); err != nil {
		return nil, err
	}
	old := unix.Umask(0o177)
	l, err := net.Listen("unix", path)
	unix.Umask(old)
	return l, err
}

// removeDead removes a socket that nobody listens on. Anything else stays, and is in the way.
func removeDead(path string) error {
	st, err := os.Lstat(path)
	if err != nil || st.Mode()&os.ModeSocket == 0 {
		return nil
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
		return nil
	}
	if errors.Is(err, unix.ECONNREFUSED) {
		return os.Remove(path)
	}
	return nil
}

// Addr is where it is served, with the port that was found for port 0.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Close ends it, scrapes under way included.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		return s.http.Close()
	}
	return nil
}

// errorLog tells the daemon's log what could not be gathered.
type errorLog struct{ log *slog.Logger }

func (l errorLog) Println(v ...any) { l.log.Warn("metrics", "error", fmt.Sprint(v...)) }
