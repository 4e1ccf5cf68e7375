package policy

// NodeKind is the shape of a Node.
type NodeKind uint8

// The shapes of JSON. YAML, as far as policies use it, has the same ones.
const (
	Object NodeKind = iota + 1
	List
	Text
	Number
	Bool
	Null
)

// String gives the shape as it is called in messages.
func (k NodeKind) String() string {
	switch k {
	case Object:
		return "an object"
	case List:
		return "a list"
	case Text:
		return "text"
	case Number:
		return "a number"
	case Bool:
		return "true or false"
	case Null:
		return "null"
	}
	return "nothing"
}

// Node is a value of a document that has been read but not yet understood, and where it stands. Parse makes the nodes from JSON; who reads another
// notation makes them and calls Rules.Build.
type Node struct {
	Kind         NodeKind
	Text         string   // Text: the characters; Number and Bool: as written
	Items        []Node   // List
	Members      []Member // Object; in the order of the document, no name twice
	Line, Column int      // of its first character, from 1; the column in characters
}

// Member is a name and a value of an object.
type Member struct {
	Name         string
	Line, Column int // of the name
	Value        Node
}
