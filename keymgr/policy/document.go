package policy

// Effect is what a statement or a decision says.
type Effect uint8

const (
	// ImplicitDeny: nothing allows it. The zero Effect.
	ImplicitDeny Effect = iota
	// Allow: a statement or grant allows it, and nothing denies it.
	Allow
	// ExplicitDeny: a statement denies it, whatever else allows it.
	ExplicitDeny
)

// String gives the name of the constant.
func (e Effect) String() string {
	switch e {
	case Allow:
		return "Allow"
	case ExplicitDeny:
		return "ExplicitDeny"
	}
	return "ImplicitDeny"
}

// Document is a parsed policy. It does not change.
type Document struct {
	kind       Kind
	version    string // "" if the document has none
	id         string
	hasID      bool
	statements []statement
	source     []byte
}

// statement is one statement, checked.
type statement struct {
	sid          string
	hasSid       bool
	effect       Effect // Allow or ExplicitDeny
	line, column int

	principals   []principal // empty in an identity policy
	notPrincipal bool
	actions      []action
	notAction    bool
	resources    []resource
	notResource  bool
	conditions   []condition // all must hold
	inert        bool        // has no effect: Action or Resource is missing from a key policy
}

// Kind is what the document was read as.
func (d *Document) Kind() Kind { return d.kind }

// ID is the document's Id; "" if it has none.
func (d *Document) ID() string { return d.id }

// Source is a copy of the bytes that were parsed; nil if the document was built from nodes.
func (d *Document) Source() []byte {
	if d.source == nil {
		return nil
	}
	return append([]byte(nil), d.source...)
}

// Statement describes one statement of a document.
type Statement struct {
	Index        int // from 0
	Sid          string
	Effect       Effect   // Allow or ExplicitDeny
	Line, Column int      // of its first character, from 1; 0 if unknown
	Principals   []string // as written; of NotPrincipal too
	Inert        bool     // it has no effect, because Action or Resource is missing
}

// Statements describes all statements, in the order of the document.
func (d *Document) Statements() []Statement {
	all := make([]Statement, len(d.statements))
	for i := range d.statements {
		s := &d.statements[i]
		all[i] = Statement{Index: i, Sid: s.sid, Effect: s.effect, Line: s.line, Column: s.column, Inert: s.inert}
		for _, p := range s.principals {
			all[i].Principals = append(all[i].Principals, p.text)
		}
	}
	return all
}
