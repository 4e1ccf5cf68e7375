package policy

import (
	"encoding/base64"
	"encoding/hex"
	"math/big"
	"net/netip"
	"strings"
	"time"
)

// parseNumber reads an integer or a decimal fraction, without exponent, of at most 30 digits on each side of the point.
func parseNumber(text string) (*big.Rat, bool) {
	digits := strings.TrimPrefix(text, "-")
	whole, fraction, point := strings.Cut(digits, ".")
	if !allDigits(whole, 1, 30) || point && !allDigits(fraction, 1, 30) {
		return nil, false
	}
	return new(big.Rat).SetString(text)
}

func allDigits(s string, min, max int) bool {
	if len(s) < min || len(s) > max {
		return false
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// parseDate reads a date of ISO 8601 (W3C's selection: year and month, day, minute, second or fraction; a time has its zone), or seconds since 1970.
// Four digits alone could be a year or seconds and are neither.
func parseDate(text string) (time.Time, bool) {
	if n, ok := parseNumber(text); ok {
		if allDigits(text, 4, 4) {
			return time.Time{}, false
		}
		nanos := new(big.Rat).Mul(n, big.NewRat(1e9, 1))
		whole := new(big.Int).Div(nanos.Num(), nanos.Denom())
		sec, nsec := new(big.Int).DivMod(whole, big.NewInt(1e9), new(big.Int))
		if !sec.IsInt64() || sec.Int64() > 1<<40 || sec.Int64() < -1<<40 {
			return time.Time{}, false
		}
		return time.Unix(sec.Int64(), nsec.Int64()), true
	}
	layout, ok := dateLayouts[shape(text)]
	if !ok {
		return time.Time{}, false
	}
	t, err := time.Parse(layout, text)
	return t, err == nil
}

// dateLayouts has the layout for each shape of a date: package time reads some layouts more liberally.
var dateLayouts = map[string]string{
	"0-0":               "2006-01",
	"0-0-0":             "2006-01-02",
	"0-0-0T0:0Z":        "2006-01-02T15:04Z07:00",
	"0-0-0T0:0+0:0":     "2006-01-02T15:04Z07:00",
	"0-0-0T0:0-0:0":     "2006-01-02T15:04Z07:00",
	"0-0-0T0:0:0Z":      time.RFC3339,
	"0-0-0T0:0:0+0:0":   time.RFC3339,
	"0-0-0T0:0:0-0:0":   time.RFC3339,
	"0-0-0T0:0:0.0Z":    time.RFC3339Nano,
	"0-0-0T0:0:0.0+0:0": time.RFC3339Nano,
	"0-0-0T0:0:0.0-0:0": time.RFC3339Nano,
}

// shape is the text with each run of digits as "0"; "" if a run has not the number of digits that its place in a date asks for.
func shape(text string) string {
	var b strings.Builder
	for i, run := 0, 0; i < len(text); run++ {
		n := 0
		for i+n < len(text) && '0' <= text[i+n] && text[i+n] <= '9' {
			n++
		}
		fraction := i > 0 && text[i-1] == '.'
		if n > 0 && !(n == 2 && run > 0 || n == 4 && run == 0 || fraction && n <= 9) {
			return ""
		}
		if n > 0 {
			b.WriteByte('0')
			i += n
		}
		if i < len(text) {
			b.WriteByte(text[i])
			i++
		}
	}
	return b.String()
}

// parseBool reads true or false, in any case.
func parseBool(text string) (v, ok bool) {
	switch {
	case sameASCII(text, "true"):
		return true, true
	case sameASCII(text, "false"):
		return false, true
	}
	return false, false
}

// parseNetwork reads an address, or a network in the notation of RFC 4632. Bits beyond the prefix don't matter.
func parseNetwork(text string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, false
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked(), true
}

// parseBinary reads base64 with its padding.
func parseBinary(text string) ([]byte, bool) {
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	return b, err == nil && !strings.ContainsAny(text, "\r\n")
}

// binary is a request's value as bytes: those that a digest's digits stand for, or those of the text.
func (v *value) binary(t valueType) []byte {
	if t == digestValue {
		b, err := hex.DecodeString(v.text)
		if err == nil {
			return b
		}
	}
	return []byte(v.text)
}

// splitARN splits at the first five colons; ok if there are that many.
func splitARN(s string) (fields []string, ok bool) {
	fields = strings.SplitN(s, ":", 6)
	return fields, len(fields) == 6 && fields[0] != ""
}
