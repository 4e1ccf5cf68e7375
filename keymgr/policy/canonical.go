package policy

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
)

// Canonical is the document as JSON in one fixed form: no white space, elements in the order of the documentation, lists of one as the one, operators and
// condition keys sorted and in their usual spelling. Its own Canonical is the same text, it decides every request as the document does, and
// it is not longer than what was parsed.
func (d *Document) Canonical() []byte {
	w := writer{}
	w.open('{')
	if d.version != "" {
		w.member("Version", d.version)
	}
	if d.hasID {
		w.member("Id", d.id)
	}
	w.name("Statement")
	if len(d.statements) == 1 {
		w.statement(&d.statements[0])
	} else {
		w.open('[')
		for i := range d.statements {
			w.next()
			w.statement(&d.statements[i])
		}
		w.close(']')
	}
	w.close('}')
	return w.out
}

// writer writes JSON without white space.
type writer struct {
	out   []byte
	begun bool // something stands in the object or list already
}

func (w *writer) open(c byte)  { w.out, w.begun = append(w.out, c), false }
func (w *writer) close(c byte) { w.out, w.begun = append(w.out, c), true }

// next puts the comma before all entries but the first.
func (w *writer) next() {
	if w.begun {
		w.out = append(w.out, ',')
	}
	w.begun = true
}

func (w *writer) name(name string) {
	w.next()
	w.out = append(appendText(w.out, name), ':')
}

func (w *writer) member(name, text string) {
	w.name(name)
	w.out = appendText(w.out, text)
}

// texts writes the one text, or the list of them. bare says which ones are written without quotes; nil: none.
func (w *writer) texts(texts []string, bare func(int) bool) {
	if len(texts) > 1 {
		w.open('[')
	}
	for i, t := range texts {
		if len(texts) > 1 {
			w.next()
		}
		if bare != nil && bare(i) {
			w.out = append(w.out, t...)
		} else {
			w.out = appendText(w.out, t)
		}
	}
	if len(texts) > 1 {
		w.close(']')
	}
}

func (w *writer) statement(s *statement) {
	w.open('{')
	if s.hasSid {
		w.member("Sid", s.sid)
	}
	w.member("Effect", map[Effect]string{Allow: "Allow", ExplicitDeny: "Deny"}[s.effect])
	if len(s.principals) > 0 {
		w.name(negated("Principal", s.notPrincipal))
		w.principals(s.principals)
	}
	if len(s.actions) > 0 {
		w.name(negated("Action", s.notAction))
		w.texts(textsOf(s.actions, func(a action) string { return a.text }), nil)
	}
	if len(s.resources) > 0 {
		w.name(negated("Resource", s.notResource))
		w.texts(textsOf(s.resources, func(r resource) string { return r.text }), nil)
	}
	if len(s.conditions) > 0 {
		w.name("Condition")
		w.conditions(s.conditions)
	}
	w.close('}')
}

func negated(name string, not bool) string {
	if not {
		return "Not" + name
	}
	return name
}

func textsOf[T any](list []T, text func(T) string) []string {
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = text(v)
	}
	return texts
}

func (w *writer) principals(list []principal) {
	if len(list) == 1 && list[0].form == everybody {
		w.out = appendText(w.out, "*")
		return
	}
	w.open('{')
	for _, kind := range []string{"AWS", "Service"} {
		var texts []string
		for _, p := range list {
			if (p.form == awsService) == (kind == "Service") {
				texts = append(texts, p.text)
			}
		}
		if len(texts) > 0 {
			w.name(kind)
			w.texts(texts, nil)
		}
	}
	w.close('}')
}

func (w *writer) conditions(list []condition) {
	sorted := slices.Clone(list)
	slices.SortFunc(sorted, func(a, b condition) int {
		if c := strings.Compare(a.name(), b.name()); c != 0 {
			return c
		}
		return strings.Compare(a.key.id, b.key.id)
	})
	w.open('{')
	for i := range sorted {
		c := &sorted[i]
		if i == 0 || sorted[i-1].name() != c.name() {
			if i > 0 {
				w.close('}')
			}
			w.name(c.name())
			w.open('{')
		}
		w.name(c.key.spelling)
		w.texts(textsOf(c.operands, func(o operand) string { return o.text }), func(i int) bool { return c.operands[i].bare })
	}
	w.close('}')
	w.close('}')
}

// appendText appends s in quotes. What may not stand unescaped in a policy is escaped, and nothing else.
func appendText(out []byte, s string) []byte {
	out = append(out, '"')
	for _, r := range s {
		if i := strings.IndexRune("\"\\\b\f\n\r\t", r); i >= 0 {
			out = append(out, '\\', `"\bfnrt`[i])
			continue
		}
		switch {
		case r < 0x20, 0xFF < r && r <= 0xFFFF:
			out = fmt.Appendf(out, "\\u%04x", r)
		case r > 0xFFFF:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, "\\u%04x\\u%04x", high, low)
		default:
			out = append(out, string(r)...)
		}
	}
	return append(out, '"')
}
