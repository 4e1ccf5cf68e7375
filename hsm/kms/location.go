package kms

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/kmsfs/kmsfs/hsm"
)

// Location is where the other key manager is.
type Location struct {
	Region   string
	Endpoint string // "": AWS' own of the region
	Forward  bool   // it is told for which user of this host it is asked
}

// localRegion is the region of every key daemon of ours.
const localRegion = "local"

// ParseLocation reads aws-kms://REGION (with ?endpoint=URL for another than AWS' own) or kmsfs://HOST:PORT (with ?forward=users to say for whom it is asked), which is https unless HOST is a
// loopback address. hsm.ErrModule.
func ParseLocation(s string) (Location, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.Path != "" || u.Fragment != "" {
		return Location{}, fmt.Errorf("%w: %.128q is neither aws-kms://REGION nor kmsfs://HOST:PORT", hsm.ErrModule, s)
	}
	switch u.Scheme {
	case "aws-kms":
		l := Location{Region: u.Host, Endpoint: u.Query().Get("endpoint")}
		if l.Endpoint != "" {
			err = checkEndpoint(l.Endpoint)
		}
		return l, err
	case "kmsfs":
		scheme := "https://"
		if loopback(u.Hostname()) {
			scheme = "http://"
		}
		if _, _, err := net.SplitHostPort(u.Host); err != nil {
			return Location{}, fmt.Errorf("%w: %.128q has no port", hsm.ErrModule, s)
		}
		forward, err := parseForward(u.RawQuery)
		return Location{Region: localRegion, Endpoint: scheme + u.Host, Forward: forward}, err
	}
	return Location{}, fmt.Errorf("%w: %.128q is neither aws-kms://REGION nor kmsfs://HOST:PORT", hsm.ErrModule, s)
}

// parseForward reads what follows HOST:PORT.
func parseForward(query string) (bool, error) {
	switch query {
	case "":
		return false, nil
	case "forward=users":
		return true, nil
	}
	return false, fmt.Errorf("%w: %.64q after kmsfs://HOST:PORT is not ?forward=users", hsm.ErrModule, query)
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// checkEndpoint refuses an endpoint to which keys would go in clear.
func checkEndpoint(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())) {
		return fmt.Errorf("%w: endpoint %.128q is not https", hsm.ErrModule, s)
	}
	return nil
}

// String is for people.
func (l Location) String() string {
	if l.Endpoint == "" {
		return "AWS KMS in " + l.Region
	}
	return strings.TrimPrefix(strings.TrimPrefix(l.Endpoint, "https://"), "http://")
}
