package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// maxDepth bounds the nesting of objects and arrays; AWS' deepest KMS request has 4 levels.
const maxDepth = 16

var (
	errSyntax    = errors.New("not a JSON object")
	errDuplicate = errors.New("duplicate member")
	errText      = errors.New("text is not valid Unicode")
	errDepth     = errors.New("nested too deeply")
)

// member is one member of an object; raw is its value as it stands in the body. Both may alias it.
type member struct{ name, raw []byte }

// object returns the members of the one JSON object that body is, in their order, after a check of the whole body. They alias it.
func object(body []byte) ([]member, error) {
	if !utf8.Valid(body) {
		return nil, errText
	}
	if !shallow(body) {
		return nil, errDepth
	}
	if !json.Valid(body) {
		return nil, errSyntax
	}
	if err := checkEscapes(body); err != nil {
		return nil, err
	}
	s := scanner{rest: body}
	s.space()
	if s.rest[0] != '{' {
		return nil, errSyntax
	}
	return s.object()
}

// shallow is false if the body nests more than maxDepth levels, whatever else is wrong with it.
func shallow(body []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return false
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return true
}

// checkEscapes refuses \u escapes that are no characters: encoding/json would turn all of them into the same one.
func checkEscapes(body []byte) error {
	for i := 0; i < len(body); i++ {
		if body[i] != '\\' { // in valid JSON only within strings
			continue
		}
		i++
		if body[i] != 'u' {
			continue
		}
		r := hex4(body[i+1:])
		i += 4
		switch {
		case 0xDC00 <= r && r <= 0xDFFF:
			return errText
		case 0xD800 <= r && r <= 0xDBFF:
			if i+6 >= len(body) || body[i+1] != '\\' || body[i+2] != 'u' {
				return errText
			}
			if low := hex4(body[i+3:]); low < 0xDC00 || low > 0xDFFF {
				return errText
			}
			i += 6
		}
	}
	return nil
}

func hex4(b []byte) uint64 {
	v, _ := strconv.ParseUint(string(b[:4]), 16, 32) // valid JSON has four digits there
	return v
}

// scanner walks over text that json.Valid has accepted.
type scanner struct{ rest []byte }

func (s *scanner) space() {
	for len(s.rest) > 0 {
		switch s.rest[0] {
		case ' ', '\t', '\r', '\n':
			s.rest = s.rest[1:]
		default:
			return
		}
	}
}

// object reads an object that begins here.
func (s *scanner) object() ([]member, error) {
	members := make([]member, 0, 8)
	var seen map[string]bool // nil while there are few
	s.rest = s.rest[1:]
	for s.space(); s.rest[0] != '}'; s.space() {
		if s.rest[0] == ',' {
			s.rest = s.rest[1:]
			s.space()
		}
		var m member
		var err error
		if m.name, err = nameOf(s.text()); err != nil {
			return nil, errSyntax
		}
		if seen = note(seen, members); seen[string(m.name)] || seen == nil && named(members, string(m.name)) != nil {
			return nil, fmt.Errorf("%w %.64q", errDuplicate, m.name)
		}
		if seen != nil {
			seen[string(m.name)] = true
		}
		s.space()
		s.rest = s.rest[1:] // the colon
		s.space()
		if m.raw, err = s.value(); err != nil {
			return nil, err
		}
		members = append(members, m)
	}
	s.rest = s.rest[1:]
	return members, nil
}

// fewMembers are looked through one by one.
const fewMembers = 16

// note returns the names of the members, once they are no longer few.
func note(seen map[string]bool, members []member) map[string]bool {
	if seen != nil || len(members) < fewMembers {
		return seen
	}
	seen = make(map[string]bool, 4*fewMembers)
	for _, m := range members {
		seen[string(m.name)] = true
	}
	return seen
}

// named finds a member; nil: there is none.
func named(members []member, name string) *member {
	for i := range members {
		if string(members[i].name) == name {
			return &members[i]
		}
	}
	return nil
}

// nameOf is textOf of a member's name, without a copy where nothing is escaped.
func nameOf(raw []byte) ([]byte, error) {
	if len(raw) >= 2 && raw[0] == '"' && bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], nil
	}
	s, err := textOf(raw)
	return []byte(s), err
}

// textOf is what a string of valid JSON says.
func textOf(raw []byte) (string, error) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", errSyntax
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), nil
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err
}

// value reads any value and returns its text.
func (s *scanner) value() ([]byte, error) {
	start := s.rest
	switch s.rest[0] {
	case '{':
		if _, err := s.object(); err != nil {
			return nil, err
		}
	case '[':
		if err := s.array(); err != nil {
			return nil, err
		}
	case '"':
		s.text()
	default:
		s.word()
	}
	return start[:len(start)-len(s.rest)], nil
}

func (s *scanner) array() error {
	s.rest = s.rest[1:]
	for s.space(); s.rest[0] != ']'; s.space() {
		if s.rest[0] == ',' {
			s.rest = s.rest[1:]
			s.space()
		}
		if _, err := s.value(); err != nil {
			return err
		}
	}
	s.rest = s.rest[1:]
	return nil
}

// text reads a string with its quotes.
func (s *scanner) text() []byte {
	i := 1
	for ; s.rest[i] != '"'; i++ {
		if s.rest[i] == '\\' {
			i++
		}
	}
	t := s.rest[:i+1]
	s.rest = s.rest[i+1:]
	return t
}

// word reads a number, true, false or null.
func (s *scanner) word() {
	for len(s.rest) > 0 {
		switch s.rest[0] {
		case ',', '}', ']', ' ', '\t', '\r', '\n':
			return
		}
		s.rest = s.rest[1:]
	}
}
