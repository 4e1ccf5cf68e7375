package policy

import "strings"

// family is how an operator compares, and with what.
type family uint8

const (
	stringEquals family = iota
	stringIgnoreCase
	stringLike
	numeric
	date
	boolean
	binaryEquals
	ipAddress
	arnLike
	null
)

// operator is a condition operator without its set prefix and IfExists.
type operator struct {
	name    string
	family  family
	negated bool
	// wants are the results of comparing the request's value with the document's (-1 less, 0 equal, 1 greater) for which a numeric or date
	// operator finds that they match.
	wants []int
}

// operators are all condition operators. docs/API.md lists them (tested).
var operators = []operator{
	{name: "StringEquals", family: stringEquals},
	{name: "StringNotEquals", family: stringEquals, negated: true},
	{name: "StringEqualsIgnoreCase", family: stringIgnoreCase},
	{name: "StringNotEqualsIgnoreCase", family: stringIgnoreCase, negated: true},
	{name: "StringLike", family: stringLike},
	{name: "StringNotLike", family: stringLike, negated: true},
	{name: "NumericEquals", family: numeric, wants: []int{0}},
	{name: "NumericNotEquals", family: numeric, wants: []int{0}, negated: true},
	{name: "NumericLessThan", family: numeric, wants: []int{-1}},
	{name: "NumericLessThanEquals", family: numeric, wants: []int{-1, 0}},
	{name: "NumericGreaterThan", family: numeric, wants: []int{1}},
	{name: "NumericGreaterThanEquals", family: numeric, wants: []int{1, 0}},
	{name: "DateEquals", family: date, wants: []int{0}},
	{name: "DateNotEquals", family: date, wants: []int{0}, negated: true},
	{name: "DateLessThan", family: date, wants: []int{-1}},
	{name: "DateLessThanEquals", family: date, wants: []int{-1, 0}},
	{name: "DateGreaterThan", family: date, wants: []int{1}},
	{name: "DateGreaterThanEquals", family: date, wants: []int{1, 0}},
	{name: "Bool", family: boolean},
	{name: "BinaryEquals", family: binaryEquals},
	{name: "IpAddress", family: ipAddress},
	{name: "NotIpAddress", family: ipAddress, negated: true},
	{name: "ArnEquals", family: arnLike},
	{name: "ArnNotEquals", family: arnLike, negated: true},
	{name: "ArnLike", family: arnLike},
	{name: "ArnNotLike", family: arnLike, negated: true},
	{name: "Null", family: null},
}

// quantifier is over which of a request's values a condition must hold.
type quantifier uint8

const (
	single quantifier = iota
	forAllValues
	forAnyValue
)

// prefix is how the quantifier is written.
func (q quantifier) prefix() string {
	return [...]string{"", "ForAllValues:", "ForAnyValue:"}[q]
}

const ifExistsSuffix = "IfExists"

// parseOperator reads the name of an operator with prefix and suffix; it says why it is refused.
func parseOperator(name string) (op operator, q quantifier, ifExists bool, why string) {
	base := name
	for _, set := range []quantifier{forAllValues, forAnyValue} {
		if rest, ok := strings.CutPrefix(base, set.prefix()); ok {
			base, q = rest, set
			break
		}
	}
	base, ifExists = strings.CutSuffix(base, ifExistsSuffix)
	for _, op := range operators {
		if op.name != base {
			continue
		}
		if op.family == null && (ifExists || q != single) {
			return op, q, ifExists, "Null takes neither a prefix nor IfExists"
		}
		return op, q, ifExists, ""
	}
	return op, q, ifExists, quote(name) + " is not a condition operator"
}

// takes reports whether the operator can compare values of this type.
func (f family) takes(t valueType) bool {
	switch f {
	case null:
		return true
	case numeric:
		return t == numberValue || t == epochValue
	case date:
		return t == dateValue || t == epochValue
	case boolean:
		return t == boolValue
	case ipAddress:
		return t == addrValue
	case arnLike:
		return t == arnValue || t == textValue
	case binaryEquals:
		return t == textValue || t == digestValue
	default:
		return t == textValue || t == arnValue || t == digestValue
	}
}
