package policy

import (
	"encoding/json"
	"slices"
	"strings"
)

// builder turns nodes into a document.
type builder struct {
	rules    Rules
	vars     bool // the version has policy variables
	resolved map[string]bool
}

func (b *builder) document(root *Node) (*Document, error) {
	if root.Kind != Object {
		return nil, root.refuse("a policy is an object, not %s", root.Kind)
	}
	if err := root.only("Version", "Id", "Statement"); err != nil {
		return nil, err
	}
	d := &Document{kind: b.rules.Kind}
	if v := root.member("Version"); v != nil {
		if v.Kind != Text || v.Text != "2012-10-17" && v.Text != "2008-10-17" {
			return nil, v.refuse(`Version must be "2012-10-17" or "2008-10-17"`)
		}
		d.version = v.Text
		b.vars = v.Text == "2012-10-17"
	}
	if id := root.member("Id"); id != nil {
		if id.Kind != Text {
			return nil, id.refuse("Id must be text, not %s", id.Kind)
		}
		d.id, d.hasID = id.Text, true
	}
	list := root.member("Statement")
	if list == nil {
		return nil, root.refuse("there is no Statement")
	}
	if err := b.statements(d, list); err != nil {
		return nil, err
	}
	return d, nil
}

func (b *builder) statements(d *Document, list *Node) error {
	items := []Node{*list}
	if list.Kind == List {
		items = list.Items
	}
	switch {
	case len(items) == 0:
		return list.refuse("there is no statement")
	case len(items) > MaxStatements:
		return list.refuse("there are %d statements, at most %d are allowed", len(items), MaxStatements)
	}
	d.statements = make([]statement, len(items))
	sids := map[string]bool{}
	for i := range items {
		n := &items[i]
		s := &d.statements[i]
		if err := b.statement(s, n); err != nil {
			return err
		}
		if s.sid != "" && sids[s.sid] {
			return n.member("Sid").refuse("another statement has the Sid %s", quote(s.sid))
		}
		sids[s.sid] = true
	}
	return nil
}

func (b *builder) statement(s *statement, n *Node) error {
	if n.Kind != Object {
		return n.refuse("a statement is an object, not %s", n.Kind)
	}
	err := n.only("Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition")
	if err != nil {
		return err
	}
	s.line, s.column = n.Line, n.Column
	if sid := n.member("Sid"); sid != nil {
		if sid.Kind != Text {
			return sid.refuse("Sid must be text, not %s", sid.Kind)
		}
		s.sid, s.hasSid = sid.Text, true
	}
	for _, part := range []func(*statement, *Node) error{b.effect, b.principals, b.actions, b.resources, b.conditions} {
		if err := part(s, n); err != nil {
			return err
		}
	}
	return s.checkProgram(n)
}

func (b *builder) effect(s *statement, n *Node) error {
	e := n.member("Effect")
	if e == nil {
		return n.refuse("the statement has no Effect")
	}
	switch {
	case e.Kind == Text && e.Text == "Allow":
		s.effect = Allow
	case e.Kind == Text && e.Text == "Deny":
		s.effect = ExplicitDeny
	default:
		return e.refuse(`Effect must be "Allow" or "Deny"`)
	}
	return nil
}

func (b *builder) principals(s *statement, n *Node) error {
	list, not, err := n.either("Principal", "NotPrincipal")
	switch {
	case err != nil:
		return err
	case b.rules.Kind == IdentityPolicy && list != nil:
		return list.refuse("a policy of an identity names no principals: it is that identity's")
	case b.rules.Kind == IdentityPolicy:
		return nil
	case list == nil:
		return n.refuse("the statement has neither Principal nor NotPrincipal")
	case not && s.effect == Allow:
		return list.refuse("NotPrincipal works with Deny only: name who may, or deny who may not")
	}
	s.notPrincipal = not
	if list.Kind == Text && list.Text == "*" {
		s.principals = []principal{{text: "*"}}
	} else if err := b.principalMap(s, list); err != nil {
		return err
	}
	if not && slices.ContainsFunc(s.principals, func(p principal) bool { return p.form == everybody }) {
		return list.refuse("NotPrincipal with \"*\" can never apply")
	}
	return nil
}

func (b *builder) principalMap(s *statement, list *Node) error {
	if list.Kind != Object || len(list.Members) == 0 {
		return list.refuse(`a principal is "*", {"AWS": ...} or {"Service": ...}`)
	}
	for i := range list.Members {
		m := &list.Members[i]
		parse := parsePrincipal
		switch m.Name {
		case "AWS":
		case "Service":
			parse = parseService
		default:
			return m.refuse(`%s is no kind of principal here: there are "AWS" and "Service"`, quote(m.Name))
		}
		items, err := m.Value.texts("a principal")
		if err != nil {
			return err
		}
		for i := range items {
			p, why := parse(items[i].Text)
			if why == "" {
				why = b.resolve(&p)
			}
			if why != "" {
				return &Error{Class: ErrInvalidPrincipal, Line: items[i].Line, Column: items[i].Column,
					Reason: "the principal " + quote(p.textOr(items[i].Text)) + " " + why}
			}
			s.principals = append(s.principals, p)
		}
	}
	return nil
}

// textOr is the principal's text, or other if it could not be parsed.
func (p *principal) textOr(other string) string {
	if p.text == "" {
		return other
	}
	return p.text
}

// resolve asks the rules about a principal, once each; it says why it is refused.
func (b *builder) resolve(p *principal) string {
	if b.rules.Resolve == nil || p.form == everybody || b.resolved[p.text] {
		return ""
	}
	if err := b.rules.Resolve(p.text); err != nil {
		return "is not known here: " + err.Error()
	}
	if b.resolved == nil {
		b.resolved = map[string]bool{}
	}
	b.resolved[p.text] = true
	return ""
}

func (b *builder) actions(s *statement, n *Node) error {
	list, not, err := n.either("Action", "NotAction")
	if err != nil {
		return err
	}
	if list == nil {
		if b.rules.Kind != KeyPolicy {
			return n.refuse("the statement has neither Action nor NotAction")
		}
		s.inert = true
		return nil
	}
	items, err := list.texts("an action")
	if err != nil {
		return err
	}
	s.notAction = not
	for i := range items {
		a, why := b.rules.parseAction(items[i].Text)
		if why == "" && not && a.text == "*" {
			why = "in NotAction makes a statement that can never apply"
		}
		if why != "" {
			return items[i].refuse("the action %s %s", quote(items[i].Text), why)
		}
		s.actions = append(s.actions, a)
	}
	return nil
}

func (b *builder) resources(s *statement, n *Node) error {
	list, not, err := n.either("Resource", "NotResource")
	if err != nil {
		return err
	}
	if list == nil {
		switch b.rules.Kind {
		case IdentityPolicy:
			return n.refuse("the statement has neither Resource nor NotResource")
		case KeyPolicy:
			s.inert = true
		}
		return nil
	}
	items, err := list.texts("a resource")
	if err != nil {
		return err
	}
	s.notResource = not
	for i := range items {
		r, why := b.parseResource(items[i].Text, not)
		if why != "" {
			return items[i].refuse("the resource %s %s", quote(items[i].Text), why)
		}
		s.resources = append(s.resources, r)
	}
	return nil
}

func (b *builder) conditions(s *statement, n *Node) error {
	c := n.member("Condition")
	if c == nil {
		return nil
	}
	if c.Kind != Object {
		return c.refuse("Condition must be an object of operators, not %s", c.Kind)
	}
	for i := range c.Members {
		if err := b.operator(s, &c.Members[i]); err != nil {
			return err
		}
	}
	return nil
}

// operator reads one operator with its keys.
func (b *builder) operator(s *statement, m *Member) error {
	op, set, ifExists, why := parseOperator(m.Name)
	if why != "" {
		return m.refuse("%s", why)
	}
	if m.Value.Kind != Object || len(m.Value.Members) == 0 {
		return m.Value.refuse("%s needs an object of condition keys and values", m.Name)
	}
	seen := map[string]bool{}
	for i := range m.Value.Members {
		k := &m.Value.Members[i]
		c := condition{op: op, set: set, ifExists: ifExists}
		if err := b.condition(&c, k); err != nil {
			return err
		}
		if seen[c.key.id] {
			return k.refuse("%s stands twice under %s: the names of condition keys have no case", quote(k.Name), m.Name)
		}
		seen[c.key.id] = true
		if len(s.conditions) == MaxConditions {
			return k.refuse("the statement has more than %d conditions", MaxConditions)
		}
		s.conditions = append(s.conditions, c)
	}
	return nil
}

// condition reads one key with its values.
func (b *builder) condition(c *condition, m *Member) error {
	var ok bool
	c.key, ok = findKey(m.Name)
	switch {
	case !ok:
		return m.refuse("%s", unknownKey(m.Name))
	case !c.op.family.takes(c.key.typ):
		return m.refuse("%s can't compare %s, whose type is %s", c.op.name, m.Name, c.key.typ)
	case c.key.multi && c.set == single && c.op.family != null:
		return m.refuse("%s can have several values: the operator needs ForAllValues: or ForAnyValue: before it", m.Name)
	case c.set == forAllValues && c.key.family:
		return m.refuse("OverlyPermissiveCondition: Using the ForAllValues set operator with a single-valued condition key, %s, "+
			"matches requests that don't have it", m.Name)
	}
	items, err := m.Value.scalars()
	if err != nil {
		return err
	}
	for i := range items {
		o, why := c.op.parseOperand(items[i].Text, c.key.typ, b.vars)
		if why != "" {
			return items[i].refuse("the value %s of %s %s", quote(items[i].Text), m.Name, why)
		}
		o.bare = items[i].Kind != Text && json.Valid([]byte(o.text)) // another notation has other numbers
		c.operands = append(c.operands, o)
	}
	return nil
}

// checkProgram refuses an Allow with a condition on the program that doesn't name users or groups: a program can be made to look like another
// one, so what it may is never more than what its user may.
func (s *statement) checkProgram(n *Node) error {
	if s.effect != Allow || !slices.ContainsFunc(s.conditions, func(c condition) bool { return c.program() }) {
		return nil
	}
	for _, p := range s.principals {
		if p.form != unixUser && p.form != unixGroup && p.form != exactly && p.form != roleOrSession {
			return n.refuse("a condition on the program narrows an Allow for users or groups, not one for %s", quote(p.text))
		}
	}
	return nil
}

// member returns the value of the member, or nil.
func (n *Node) member(name string) *Node {
	for i := range n.Members {
		if n.Members[i].Name == name {
			return &n.Members[i].Value
		}
	}
	return nil
}

// only refuses members with other names, and, for nodes that didn't come from parseJSON, members that are there twice.
func (n *Node) only(names ...string) error {
	seen := map[string]bool{}
	for i := range n.Members {
		m := &n.Members[i]
		if !slices.Contains(names, m.Name) {
			return m.refuse("%s is no element of a policy in this place: there are %s", quote(m.Name), strings.Join(names, ", "))
		}
		if seen[m.Name] {
			return m.refuse("%s stands twice", m.Name)
		}
		seen[m.Name] = true
	}
	return nil
}

// either returns the value of one of two members that exclude each other, or nil.
func (n *Node) either(name, notName string) (v *Node, not bool, err error) {
	v, v2 := n.member(name), n.member(notName)
	switch {
	case v != nil && v2 != nil:
		return nil, false, v2.refuse("a statement has either %s or %s", name, notName)
	case v2 != nil:
		return v2, true, nil
	}
	return v, false, nil
}

// texts returns the text, or the texts of the list, that the node is.
func (n *Node) texts(what string) ([]Node, error) {
	items, err := n.scalars()
	if err != nil {
		return nil, err
	}
	for i := range items {
		if items[i].Kind != Text {
			return nil, items[i].refuse("%s is text, not %s", what, items[i].Kind)
		}
	}
	return items, nil
}

// scalars returns the value, or the values of the list, that the node is.
func (n *Node) scalars() ([]Node, error) {
	items := []Node{*n}
	if n.Kind == List {
		items = n.Items
	}
	switch {
	case len(items) == 0:
		return nil, n.refuse("the list is empty")
	case len(items) > MaxValues:
		return nil, n.refuse("the list has %d entries, at most %d are allowed", len(items), MaxValues)
	}
	for i := range items {
		switch items[i].Kind {
		case Text, Number, Bool:
		default:
			return nil, items[i].refuse("%s where one value is expected", items[i].Kind)
		}
	}
	return items, nil
}
