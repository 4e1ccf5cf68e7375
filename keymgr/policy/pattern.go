package policy

import (
	"strings"
	"unicode/utf8"
)

// glob is text with wildcards, a byte or a wildcard per element.
type glob []uint16

const (
	one  = 0x100 // ?: one character, or one byte that is not part of any
	many = 0x101 // *: any number of characters, none too
)

// literal is the glob that matches text only.
func literal(text string) glob {
	g := make(glob, len(text))
	for i := range len(text) {
		g[i] = uint16(text[i])
	}
	return g
}

// wildcards is the glob in which * and ? of the text are wildcards.
func wildcards(text string) glob {
	g := literal(text)
	for i, c := range g {
		switch c {
		case '*':
			g[i] = many
		case '?':
			g[i] = one
		}
	}
	return g
}

// match reports whether all of s matches. It takes at most len(g) * len(s) steps: after a mismatch the last * takes one character more, and no
// earlier one has to be tried again.
func (g glob) match(s string) bool {
	i, p := 0, 0
	star, resume := -1, 0
	for i < len(s) || p < len(g) {
		if p < len(g) {
			switch c := g[p]; {
			case c == many:
				star, resume = p, i
				p++
				continue
			case i == len(s):
			case c == one:
				_, size := utf8.DecodeRuneInString(s[i:])
				i += size
				p++
				continue
			case c == uint16(s[i]):
				i++
				p++
				continue
			}
		}
		if star < 0 || resume == len(s) {
			return false
		}
		_, size := utf8.DecodeRuneInString(s[resume:])
		resume += size
		i, p = resume, star+1
	}
	return true
}

// text is the glob as text, if it has no wildcards.
func (g glob) text() string {
	b := make([]byte, len(g))
	for i, c := range g {
		b[i] = byte(c)
	}
	return string(b)
}

// pattern is a value of a document that may hold wildcards and policy variables.
type pattern struct {
	text  string // as written
	parts []part // nil if there are no variables
	fixed glob   // the whole of it, if there are none
}

// part is a piece of a pattern: a glob, or a variable.
type part struct {
	glob glob
	v    *variable
}

// variable is ${key} or ${key, 'default'}.
type variable struct {
	key        keyRef
	hasDefault bool
	def        string
}

// parsePattern reads a value. wild: * and ? are wildcards; vars: ${} is a variable or an escape. It says why it is refused.
func parsePattern(text string, wild, vars bool) (pattern, string) {
	p := pattern{text: text}
	plain := literal
	if wild {
		plain = wildcards
	}
	if !vars || !strings.Contains(text, "${") {
		p.fixed = plain(text)
		return p, ""
	}
	hasVariable := false
	for rest := text; rest != ""; {
		before, after, found := strings.Cut(rest, "${")
		p.parts = append(p.parts, part{glob: plain(before)})
		if !found {
			break
		}
		inner, tail, ok := cutVariable(after)
		if !ok {
			return p, `has a ${ without its }; a literal $ is written as ${$}`
		}
		rest = tail
		if inner == "*" || inner == "?" || inner == "$" {
			p.parts = append(p.parts, part{glob: literal(inner)})
			continue
		}
		v, why := parseVariable(inner)
		if why != "" {
			return p, why
		}
		hasVariable = true
		p.parts = append(p.parts, part{v: v})
	}
	if !hasVariable {
		for _, part := range p.parts {
			p.fixed = append(p.fixed, part.glob...)
		}
		p.parts = nil
	}
	return p, ""
}

// cutVariable splits at the } that ends a variable: the first one that is not in quotes.
func cutVariable(s string) (inner, tail string, ok bool) {
	quoted := false
	for i := range len(s) {
		switch s[i] {
		case '\'':
			quoted = !quoted
		case '}':
			if !quoted {
				return s[:i], s[i+1:], true
			}
		}
	}
	return "", "", false
}

// parseVariable reads what stands between ${ and }.
func parseVariable(inner string) (*variable, string) {
	name, def, hasDefault := strings.Cut(inner, ",")
	name = strings.TrimSpace(name)
	key, ok := findKey(name)
	switch {
	case !ok:
		return nil, "has the variable " + quote(name) + ", which is not a condition key"
	case key.multi:
		return nil, "has the variable " + quote(name) + ", which can have several values"
	}
	v := &variable{key: key, hasDefault: hasDefault}
	if hasDefault {
		def = strings.TrimSpace(def)
		if len(def) < 2 || def[0] != '\'' || def[len(def)-1] != '\'' {
			return nil, "has a variable whose default value is not in single quotes"
		}
		def = def[1 : len(def)-1]
		if strings.Contains(strings.ReplaceAll(def, "''", ""), "'") {
			return nil, "has a variable with a single quote in its default value; it is written as two"
		}
		v.def = strings.ReplaceAll(def, "''", "'")
	}
	return v, ""
}

// program reports whether the pattern depends on the program that asks.
func (p *pattern) program() bool {
	for _, part := range p.parts {
		if part.v != nil && part.v.key.isProgram() {
			return true
		}
	}
	return false
}

// resolve puts the request's values into the variables; a wildcard in a value is none. no: a variable has no value, so nothing matches. maybe: a variable has
// a value that is not known, for which * stands, so what does not match the glob does not match the pattern.
func (p *pattern) resolve(r *Request) (glob, truth) {
	if p.parts == nil {
		return p.fixed, yes
	}
	var g glob
	known := yes
	for _, part := range p.parts {
		if part.v == nil {
			g = append(g, part.glob...)
			continue
		}
		switch text, t := part.v.resolve(r); t {
		case no:
			return nil, no
		case maybe:
			known = maybe
			g = append(g, many)
		default:
			g = append(g, literal(text)...)
		}
	}
	return g, known
}

// matches decides whether the pattern matches text.
func (p *pattern) matches(r *Request, text string) truth {
	g, known := p.resolve(r)
	if known == no || !g.match(text) {
		return no
	}
	return known
}

// equalsFold decides whether the pattern, which has no wildcards, is text but for case.
func (p *pattern) equalsFold(r *Request, text string) truth {
	g, known := p.resolve(r)
	if known == yes {
		return truthOf(strings.EqualFold(g.text(), text))
	}
	return known
}

func (v *variable) resolve(r *Request) (string, truth) {
	e := r.lookup(&v.key)
	switch {
	case e.incomplete || len(e.values) > 1:
		return "", maybe
	case len(e.values) == 1:
		return e.values[0].text, yes
	case v.hasDefault:
		return v.def, yes
	}
	return "", no
}
