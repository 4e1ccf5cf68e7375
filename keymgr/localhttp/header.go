package localhttp

import "net/http"

// wellFormed says whether the names of a header are tokens and its values text, which is for servers to check (RFC 9110, 5.1 and 5.5).
func wellFormed(h http.Header) bool {
	for name, values := range h {
		for i := range len(name) {
			if !token(name[i]) {
				return false
			}
		}
		for _, v := range values {
			for i := range len(v) {
				if c := v[i]; c < ' ' && c != '\t' || c == 0x7f {
					return false
				}
			}
		}
	}
	return true
}

func token(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	switch c {
	case '!', '#', '$', '%', '&', '\'', '*', '+', '-', '.', '^', '_', '`', '|', '~':
		return true
	}
	return false
}
