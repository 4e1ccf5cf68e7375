package policy

import (
	"bytes"
	"encoding/hex"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// condition is one operator, one key, and the values one of which the request's must match.
type condition struct {
	op       operator
	set      quantifier
	ifExists bool
	key      keyRef
	operands []operand
}

// operand is one value of a condition, in the form that its operator compares.
type operand struct {
	text string
	bare bool // written without quotes

	pattern pattern   // the string operators
	fields  []pattern // arnLike
	number  *big.Rat
	time    time.Time
	flag    bool // boolean and null
	network netip.Prefix
	binary  []byte
}

// name is the operator with prefix and suffix.
func (c *condition) name() string {
	s := c.set.prefix() + c.op.name
	if c.ifExists {
		s += ifExistsSuffix
	}
	return s
}

// program reports whether the condition depends on the program that asks.
func (c *condition) program() bool {
	if c.key.isProgram() {
		return true
	}
	for i := range c.operands {
		o := &c.operands[i]
		if o.pattern.program() || slices.ContainsFunc(o.fields, func(p pattern) bool { return p.program() }) {
			return true
		}
	}
	return false
}

// parseOperand reads a value for the operator, of the key's type; vars says whether ${} is a variable. It says why the value is refused.
func (o operator) parseOperand(text string, t valueType, vars bool) (operand, string) {
	v := operand{text: text}
	if len(text) > MaxPattern {
		return v, "is too long"
	}
	ok, want := true, ""
	switch o.family {
	case stringEquals, stringIgnoreCase, stringLike:
		if t == digestValue {
			text = fold(text) // so are the request's
			if _, err := hex.DecodeString(text); o.family != stringLike && (err != nil || len(text) != 64) {
				return v, "is not a SHA-256 digest of 64 hexadecimal digits"
			}
		}
		v.pattern, want = parsePattern(text, o.family == stringLike, vars)
		return v, want
	case arnLike:
		v.fields, want = parseARNPattern(text, vars)
		return v, want
	case numeric:
		v.number, ok = parseNumber(text)
		want = "is not a number"
	case date:
		v.time, ok = parseDate(text)
		want = "is not a date, as 2026-01-31T23:59:59Z, nor seconds since 1970"
	case boolean, null:
		v.flag, ok = parseBool(text)
		want = "is neither true nor false"
	case ipAddress:
		v.network, ok = parseNetwork(text)
		want = "is not an IP address or network, as 10.0.0.0/8"
	case binaryEquals:
		v.binary, ok = parseBinary(text)
		want = "is not base64"
	}
	if ok {
		return v, ""
	}
	if vars && strings.Contains(text, "${") {
		want += "; variables work with the string and ARN operators only"
	}
	return v, want
}

// parseARNPattern reads a pattern of an ARN, whose six fields are compared one by one.
func parseARNPattern(text string, vars bool) ([]pattern, string) {
	parts, ok := splitPattern(text, vars)
	if !ok {
		return nil, `is not an ARN: it needs six fields, as "arn:aws:kms:*:*:key/*"`
	}
	fields := make([]pattern, len(parts))
	for i, part := range parts {
		var why string
		if fields[i], why = parsePattern(part, true, vars); why != "" {
			return nil, why
		}
	}
	return fields, ""
}

// splitPattern is splitARN that leaves the colons of variables alone.
func splitPattern(text string, vars bool) ([]string, bool) {
	if !vars {
		return splitARN(text)
	}
	var fields []string
	start := 0
	for i := 0; i < len(text) && len(fields) < 5; i++ {
		if strings.HasPrefix(text[i:], "${") {
			if inner, _, ok := cutVariable(text[i+2:]); ok {
				i += len("${") + len(inner)
				continue
			}
		}
		if text[i] == ':' {
			fields = append(fields, text[start:i])
			start = i + 1
		}
	}
	fields = append(fields, text[start:])
	return fields, len(fields) == 6 && fields[0] != ""
}

// holds decides the condition. effect is the statement's: where a key that should have one value has several, all of them must fit for an Allow,
// and one is enough for a Deny.
func (c *condition) holds(r *Request, effect Effect) truth {
	e := r.lookup(&c.key)
	switch {
	case c.op.family == null:
		return c.null(e)
	case c.set == forAllValues:
		return c.all(r, e)
	case c.set == forAnyValue:
		return c.any(r, e)
	case len(e.values) == 0 && e.incomplete:
		return maybe
	case len(e.values) == 0:
		return truthOf(c.ifExists || c.op.negated)
	case effect == Allow:
		return c.all(r, e)
	}
	return c.any(r, e)
}

// all: every value of the request fits. None is fine.
func (c *condition) all(r *Request, e entry) truth {
	t := yes
	if e.incomplete {
		t = maybe
	}
	for i := range e.values {
		t = t.and(c.fits(r, &e.values[i]))
	}
	return t
}

// any: at least one value of the request fits.
func (c *condition) any(r *Request, e entry) truth {
	t := no
	if e.incomplete {
		t = maybe
	}
	for i := range e.values {
		t = t.or(c.fits(r, &e.values[i]))
	}
	return t
}

// null decides whether the key is in the request, as the document asks.
func (c *condition) null(e entry) truth {
	absent := truthOf(len(e.values) == 0 || e.defaulted)
	if absent == yes && e.incomplete {
		absent = maybe
	}
	wantsAbsent := slices.ContainsFunc(c.operands, func(o operand) bool { return o.flag })
	wantsPresent := slices.ContainsFunc(c.operands, func(o operand) bool { return !o.flag })
	switch {
	case wantsAbsent && wantsPresent:
		return yes
	case wantsAbsent:
		return absent
	}
	return absent.not()
}

// fits decides the condition for one value: it matches one of the operands, or, for a negated operator, none.
func (c *condition) fits(r *Request, v *value) truth {
	t := no
	for i := range c.operands {
		t = t.or(c.op.matches(r, v, &c.operands[i], c.key.typ))
	}
	if c.op.negated {
		return t.not()
	}
	return t
}

// matches compares a value of the request with one of the document.
func (o *operator) matches(r *Request, v *value, want *operand, t valueType) truth {
	switch o.family {
	case numeric:
		return truthOf(slices.Contains(o.wants, new(big.Rat).SetInt64(v.number).Cmp(want.number)))
	case date:
		return truthOf(slices.Contains(o.wants, v.time.Compare(want.time)))
	case boolean:
		flag, ok := parseBool(v.text)
		return truthOf(ok && flag == want.flag)
	case ipAddress:
		return truthOf(want.network.Contains(v.addr))
	case binaryEquals:
		return truthOf(bytes.Equal(v.binary(t), want.binary))
	case arnLike:
		return matchARN(r, want.fields, v.text)
	case stringIgnoreCase:
		return want.pattern.equalsFold(r, v.text)
	}
	return want.pattern.matches(r, v.text)
}

// matchARN compares field by field. What is not an ARN matches nothing.
func matchARN(r *Request, fields []pattern, arn string) truth {
	got, ok := splitARN(arn)
	if !ok {
		return no
	}
	t := yes
	for i := range fields {
		t = t.and(fields[i].matches(r, got[i]))
	}
	return t
}
