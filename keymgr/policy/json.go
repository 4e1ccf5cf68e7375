package policy

import (
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// parseJSON reads the one JSON value that doc is, as RFC 8259 has it, without the liberties of encoding/json: no name twice in an object, no
// escapes that are not characters, nothing after the value. Only the characters that AWS allows in a policy may stand in it unescaped.
func parseJSON(doc []byte) (*Node, error) {
	if len(doc) > MaxDocument {
		return nil, &Error{Class: ErrTooLarge, Reason: fmt.Sprintf("the document has %d bytes, at most %d are allowed", len(doc), MaxDocument)}
	}
	s := scanner{text: string(doc), line: 1, column: 1}
	if err := s.checkCharacters(); err != nil {
		return nil, err
	}
	root, err := s.value(1)
	if err != nil {
		return nil, err
	}
	s.space()
	if s.pos < len(s.text) {
		return nil, s.refuse("text after the end of the document")
	}
	return &root, nil
}

// scanner walks over the text. INVARIANT: line and column are the place of text[pos].
type scanner struct {
	text         string
	pos          int
	line, column int
}

func (s *scanner) refuse(format string, args ...any) error {
	return &Error{Class: ErrMalformed, Line: s.line, Column: s.column, Reason: fmt.Sprintf(format, args...)}
}

// unexpected says what stands here instead of what should.
func (s *scanner) unexpected(want string) error {
	if s.pos >= len(s.text) {
		return s.refuse("the document ends where %s is expected", want)
	}
	r, _ := utf8.DecodeRuneInString(s.text[s.pos:])
	return s.refuse("%q where %s is expected", r, want)
}

// checkCharacters refuses what is not in [\t\n\r\u0020-\u00FF], and invalid UTF-8.
func (s *scanner) checkCharacters() error {
	at := scanner{text: s.text, line: 1, column: 1}
	for at.pos < len(at.text) {
		r, size := utf8.DecodeRuneInString(at.text[at.pos:])
		switch {
		case r == utf8.RuneError && size == 1:
			return at.refuse("not UTF-8")
		case r > 0xFF, r < 0x20 && r != '\t' && r != '\n' && r != '\r':
			return at.refuse("the character %U is not allowed in a policy; in text it can be written as \\u%04X", r, r)
		}
		at.advance(size)
	}
	return nil
}

// peek returns the byte here, or 0 at the end.
func (s *scanner) peek() byte {
	if s.pos < len(s.text) {
		return s.text[s.pos]
	}
	return 0
}

// advance goes n bytes on. A character of several bytes is counted with its first one.
func (s *scanner) advance(n int) {
	for ; n > 0; n-- {
		switch c := s.text[s.pos]; {
		case c == '\n':
			s.line++
			s.column = 1
		case utf8.RuneStart(c):
			s.column++
		}
		s.pos++
	}
}

func (s *scanner) space() {
	for s.pos < len(s.text) {
		switch s.text[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.advance(1)
		default:
			return
		}
	}
}

// value reads any value; depth counts from 1.
func (s *scanner) value(depth int) (Node, error) {
	s.space()
	n := Node{Line: s.line, Column: s.column}
	if depth > maxDepth {
		return n, s.refuse("nested too deeply")
	}
	var err error
	switch c := s.peek(); {
	case c == '{':
		n.Kind = Object
		n.Members, err = s.object(depth)
	case c == '[':
		n.Kind = List
		n.Items, err = s.list(depth)
	case c == '"':
		n.Kind = Text
		n.Text, err = s.string()
	case c == '-' || '0' <= c && c <= '9':
		n.Kind = Number
		n.Text, err = s.number()
	default:
		n.Kind, n.Text, err = s.word()
	}
	return n, err
}

func (s *scanner) object(depth int) ([]Member, error) {
	var members []Member
	seen := map[string]bool{}
	s.advance(1)
	for s.space(); s.peek() != '}'; s.space() {
		if len(members) > 0 {
			if s.peek() != ',' {
				return nil, s.unexpected("a comma or the end of the object")
			}
			s.advance(1)
			s.space()
		}
		m, err := s.member(depth, seen)
		if err != nil {
			return nil, err
		}
		members = append(members, m)
	}
	s.advance(1)
	return members, nil
}

func (s *scanner) member(depth int, seen map[string]bool) (Member, error) {
	m := Member{Line: s.line, Column: s.column}
	if s.peek() != '"' {
		return m, s.unexpected("a name in quotes")
	}
	var err error
	if m.Name, err = s.string(); err != nil {
		return m, err
	}
	if seen[m.Name] {
		return m, m.refuse("%s stands twice in this object", quote(m.Name))
	}
	seen[m.Name] = true
	s.space()
	if s.peek() != ':' {
		return m, s.unexpected("a colon")
	}
	s.advance(1)
	m.Value, err = s.value(depth + 1)
	return m, err
}

func (s *scanner) list(depth int) ([]Node, error) {
	var items []Node
	s.advance(1)
	for s.space(); s.peek() != ']'; s.space() {
		if len(items) > 0 {
			if s.peek() != ',' {
				return nil, s.unexpected("a comma or the end of the list")
			}
			s.advance(1)
		}
		item, err := s.value(depth + 1)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	s.advance(1)
	return items, nil
}

// string reads text in quotes and returns it without them and without escapes.
func (s *scanner) string() (string, error) {
	var out []byte
	s.advance(1)
	for {
		switch c := s.peek(); {
		case s.pos >= len(s.text):
			return "", s.unexpected("the closing quote")
		case c == '"':
			s.advance(1)
			return string(out), nil
		case c < 0x20:
			return "", s.refuse("a control character in text must be escaped")
		case c == '\\':
			r, err := s.escape()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, r)
		default:
			out = append(out, c)
			s.advance(1)
		}
	}
}

// escape reads one escape, or the two that make a character beyond U+FFFF.
func (s *scanner) escape() (rune, error) {
	const letters, meaning = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	if s.pos+1 < len(s.text) {
		for i := range letters {
			if s.text[s.pos+1] == letters[i] {
				s.advance(2)
				return rune(meaning[i]), nil
			}
		}
	}
	r, ok := s.hex4(s.pos)
	if !ok {
		return 0, s.refuse("not an escape of JSON")
	}
	if !utf16.IsSurrogate(r) {
		s.advance(6)
		return r, nil
	}
	low, ok := s.hex4(s.pos + 6)
	if r = utf16.DecodeRune(r, low); !ok || r == utf8.RuneError {
		return 0, s.refuse("half of a surrogate pair is not a character")
	}
	s.advance(12)
	return r, nil
}

// hex4 reads \uXXXX at pos.
func (s *scanner) hex4(pos int) (rune, bool) {
	if pos+6 > len(s.text) || s.text[pos] != '\\' || s.text[pos+1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range []byte(s.text[pos+2 : pos+6]) {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case 'A' <= c && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// number reads a number and returns it as written.
func (s *scanner) number() (string, error) {
	start := s.pos
	if s.peek() == '-' {
		s.advance(1)
	}
	if s.peek() == '0' {
		s.advance(1)
	} else if !s.digits() {
		return "", s.unexpected("a digit")
	}
	if s.peek() == '.' {
		s.advance(1)
		if !s.digits() {
			return "", s.unexpected("a digit")
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.advance(1)
		if c := s.peek(); c == '+' || c == '-' {
			s.advance(1)
		}
		if !s.digits() {
			return "", s.unexpected("a digit")
		}
	}
	return s.text[start:s.pos], nil
}

func (s *scanner) digits() bool {
	start := s.pos
	for '0' <= s.peek() && s.peek() <= '9' {
		s.advance(1)
	}
	return s.pos > start
}

// word reads true, false or null.
func (s *scanner) word() (NodeKind, string, error) {
	for _, w := range []struct {
		text string
		kind NodeKind
	}{{"true", Bool}, {"false", Bool}, {"null", Null}} {
		if len(s.text)-s.pos >= len(w.text) && s.text[s.pos:s.pos+len(w.text)] == w.text {
			s.advance(len(w.text))
			return w.kind, w.text, nil
		}
	}
	return 0, "", s.unexpected("a value")
}
