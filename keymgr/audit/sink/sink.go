package sink

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/kmsfs/kmsfs/keymgr/audit/trail"
)

// ErrSink: not a description of a sink.
var ErrSink = errors.New("not an audit sink")

// Parse reads the description of a sink: "syslog" (the local one) or "syslog:/path/of/socket", "journal", or an http or https URL; with "required:" in front, operations wait for it and fail without
// it, and without that it may lose events. ErrSink.
func Parse(text string) (trail.Sink, error) {
	rest, required := strings.CutPrefix(text, "required:")
	s := trail.Sink{Name: rest, Required: required}
	switch kind, arg, _ := strings.Cut(rest, ":"); kind {
	case "syslog":
		if arg == "" {
			arg = "/dev/log"
		}
		s.Target = &syslog{path: arg}
	case "journal":
		if arg == "" {
			arg = "/run/systemd/journal/socket"
		}
		s.Target = &journal{datagram{path: arg}}
	case "http", "https":
		u, err := url.Parse(rest)
		if err != nil || u.Host == "" {
			return s, fmt.Errorf("%w: %q is no URL", ErrSink, rest)
		}
		if u.User != nil {
			return s, fmt.Errorf("%w: a password does not belong into a URL on the command line", ErrSink)
		}
		s.Target = newCollector(rest)
	default:
		return s, fmt.Errorf("%w: %q; there are syslog, journal, http://… and https://…, with required: in front if operations are to wait for it", ErrSink, text)
	}
	return s, nil
}
