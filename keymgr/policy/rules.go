package policy

// Limits of a document. AWS has the first only; the others bound what one decision may cost.
const (
	MaxDocument   = 32 << 10 // bytes
	MaxStatements = 256      // of a document
	MaxConditions = 64       // pairs of operator and key, of a statement
	MaxValues     = 1024     // of a list: principals, actions, resources, values of a condition
	MaxPattern    = 2048     // bytes of one action, resource, principal or value
	maxDepth      = 8        // a value of a condition is at depth 6
)

// Kind is where a document is attached, which decides what its statements must and may have.
type Kind uint8

const (
	// KeyPolicy is attached to a key. Every statement has a Principal or NotPrincipal. One without Action or without Resource is accepted, as AWS
	// does, and has no effect.
	KeyPolicy Kind = iota
	// IdentityPolicy is attached to an identity, which is its principal: no statement names one. Action and Resource must be there.
	IdentityPolicy
	// DirectoryPolicy is attached to a directory. It is as a key policy, but Resource may be left out (it is the directory), and Action may not.
	DirectoryPolicy
)

// Rules is how a document is read. The zero Rules are for a key policy whose principals need not exist.
type Rules struct {
	Kind Kind
	// Resolve is asked once about every principal of the document that has the right form, as it is written there, but not about "*"; its error
	// refuses the document. nil accepts all.
	Resolve func(principal string) error
	// Actions is what Action and NotAction may name: a pattern that matches none of them is refused. nil: the actions of KMS as
	// AWS lists them, and whatever begins with "kmsfs:".
	Actions []string
}

// Parse reads a key policy whose principals need not exist: Rules{}.Parse.
func Parse(document []byte) (*Document, error) { return Rules{}.Parse(document) }

// Parse reads a document from JSON. It keeps a copy of the bytes. Errors: ErrTooLarge, ErrInvalidPrincipal, ErrMalformed, each an *Error with a place.
func (r Rules) Parse(document []byte) (*Document, error) {
	root, err := parseJSON(document)
	if err != nil {
		return nil, err
	}
	d, err := r.Build(root)
	if err != nil {
		return nil, err
	}
	d.source = append([]byte(nil), document...)
	return d, nil
}

// Build makes a document from nodes that were read elsewhere. Errors: as Parse, with the places of the nodes.
func (r Rules) Build(root *Node) (*Document, error) {
	b := builder{rules: r}
	return b.document(root)
}
